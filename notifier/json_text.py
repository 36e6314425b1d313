"""JSON from outside, read and checked; JSON for the wire, written. The texts inside follow `notifier.rules`.

Must not know: asyncio, Redis, HTTP.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, Final

from notifier.errors import InvalidInput, MalformedBody, PayloadTooLarge
from notifier.rules import shown, text

MAX_DEPTH: Final = 32


def json_value(value: object, field: str) -> Any:
    """A value that can be written as JSON: known types, no NaN, text as in `text`, at most 32 levels deep."""
    _walk(value, field, 1)
    return value


def json_object(value: object, field: str = "data") -> dict[str, Any]:
    """A JSON object under the rules of `json_value`."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"must be an object, not {shown(value)}", field=field)
    plain = dict(value)
    _walk(plain, field, 1)
    return plain


def _walk(value: object, field: str, depth: int) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        text(value, field)
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidInput(f"must be a finite number, not {value}", field=field)
    elif isinstance(value, dict | list | tuple):
        if depth > MAX_DEPTH:
            raise InvalidInput(f"is nested deeper than {MAX_DEPTH} levels", field=field.split(".")[0].split("[")[0])
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise InvalidInput(f"has the key {shown(key)}, which is not a string", field=field)
                text(key, field)
                _walk(item, f"{field}.{key}", depth + 1)
        else:
            for i, item in enumerate(value):
                _walk(item, f"{field}[{i}]", depth + 1)
    else:
        raise InvalidInput(f"cannot be written as JSON: {type(value).__name__}", field=field)


def parse_json(body: bytes | str, field: str = "body") -> Any:
    """Parse JSON from outside: strict UTF-8, no NaN, no repeated keys, bounded depth.

    Raises `MalformedBody` if it is not JSON, `InvalidInput` (with the path inside) if a value breaks a rule.
    """
    return check_json(read_json(body, field), field)


def read_json(body: bytes | str, field: str = "body") -> Any:
    """The first half of `parse_json`, the syntax: for a body whose parts are checked separately."""
    try:
        return _STRICT.decode(body.decode("utf-8") if isinstance(body, bytes) else body)
    except RecursionError:
        raise InvalidInput(f"is nested deeper than {MAX_DEPTH} levels", field=field) from None
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"is not UTF-8 at byte {exc.start}", field=field) from None
    except json.JSONDecodeError as exc:
        raise MalformedBody(f"is not JSON: {exc.msg} at character {exc.pos}", field=field) from None
    except InvalidInput:
        raise
    except ValueError as exc:
        raise MalformedBody(f"is not JSON: {exc}", field=field) from None


def check_json(value: Any, field: str = "body") -> Any:
    """The second half of `parse_json`, the values."""
    if isinstance(value, dict):
        for key, item in value.items():
            text(key, field)
            _walk(item, key or field, 2)
    else:
        _walk(value, field, 1)
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InvalidInput("is given twice in one object", field=ascii(repeated)[1:-1])
    return fields


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def to_json(value: object) -> str:
    """Compact JSON on one line, as in a `data:` field. Line ends inside strings are escaped."""
    return _COMPACT.encode(value)


def text_to_json(value: str) -> str:
    """As `to_json`, of text: many times faster."""
    return encode_basestring(value)


def bounded(data: str, fields: Mapping[str, object], max_bytes: int) -> str:
    """The encoded data of an event. Raises `PayloadTooLarge`, naming the largest of `fields`, over `max_bytes`."""
    size = len(data) if data.isascii() else len(data.encode())
    if size > max_bytes:
        largest = max(fields, key=lambda field: len(to_json(fields[field]))) if fields else None
        raise PayloadTooLarge(f"makes an event of {size} bytes; at most {max_bytes} are accepted", field=largest)
    return data
