"""The JSON of request bodies, parsed and checked in one pass.

`json_text.parse_json` is the rule. A parser in C is faster and checks less: no repeated keys, no NUL, no depth. A few
searches in the bytes show where none of these can be; only there is its result used, and everything else goes through
the rule, which also words every error. Must not know: what the bodies mean.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from notifier import json_text

_decode = msgspec.json.Decoder().decode
_SPACES: Final = b" \t\r\n"
_encode = msgspec.json.Encoder().encode


def parse_json(body: bytes) -> Any:
    """As `json_text.parse_json`."""
    value = parse_plain(body)
    return json_text.parse_json(body) if value is None else value


def parse_plain(body: bytes, *, max_depth: int = json_text.MAX_DEPTH) -> Any:
    """The value of a body in which no rule can be broken; None if that cannot be seen.

    No escape can be a NUL or half a character. Without spaces every key is followed by its colon at once, so that there
    are at most as many keys as `":`; if the value has that many, no key was given twice.
    """
    if b"\\" in body and b"\\u" in body:
        return None
    try:
        value = _decode(body)
        keys = _count_keys(value, max_depth)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _TooDeepError):
        return None
    return value if keys == body.translate(None, _SPACES).count(b'":') else None


class _TooDeepError(Exception): ...


def _count_keys(value: Any, depth: int) -> int:
    """The keys of all objects. Raises `_TooDeepError` for more than `depth` levels of nesting."""
    kind = type(value)
    if kind is dict:
        items, keys = value.values(), len(value)
    elif kind is list:
        items, keys = value, 0
    else:
        return 0
    if not depth:
        raise _TooDeepError
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            keys += _count_keys(item, depth - 1)
    return keys


def to_json(value: object) -> str:
    """As `json_text.to_json`, of a value that was parsed here."""
    try:
        return _encode(value).decode()
    except (msgspec.ValidationError, OverflowError, TypeError, ValueError):  # a number of more than 64 bits
        return json_text.to_json(value)
