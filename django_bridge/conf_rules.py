"""The rules of the settings dict `NOTIFIER`: which keys there are, and which values each takes.

Must not know: where the dict is, and its users.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.utils.module_loading import import_string

from notifier import rules
from notifier.api_key import is_key
from notifier.broker.redis.addresses import keys_of, parse_target
from notifier.errors import InvalidInput
from notifier.jwt_secret import MIN_SECRET_BYTES

TRANSPORTS: Final = ("http", "redis", "memory")
DELIVERIES: Final = ("background", "inline")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in `NOTIFIER`."""

    number: int
    """The number in the id of its system check, `notifier.E...`."""
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Rule:
    number: int
    attribute: str
    holds: Callable[[Any], bool]
    hint: str


def _is_url(*schemes: str) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        if not isinstance(value, str) or value != value.strip():
            return False
        try:
            parts = urlsplit(value)
        except ValueError:
            return False
        return parts.scheme in schemes and bool(parts.netloc or parts.scheme == "unix")

    return holds


def _is_redis_url(value: Any) -> bool:
    try:
        parse_target(value)
    except (ValueError, TypeError):
        return False
    return bool(value == value.strip())


def _is_whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_function(path: Any) -> bool:
    try:
        return callable(import_string(path))
    except (ImportError, TypeError, AttributeError, ValueError):
        return False


def _is_group(name: Any) -> bool:
    try:
        rules.name(name, "group")
    except InvalidInput:
        return False
    return True


_YEAR_S: Final = 366 * 24 * 3600
_is_http: Final = _is_url("http", "https")
RULES: Final[Mapping[str, Rule]] = {
    "TRANSPORT": Rule(3, "transport", lambda v: v in TRANSPORTS, f"One of {', '.join(map(repr, TRANSPORTS))}."),
    "URL": Rule(4, "url", _is_http, "The service's address, such as 'http://notifier:8000'."),
    "PUBLIC_URL": Rule(
        5, "public_url", _is_http, "The service's address as browsers see it, such as 'https://example.org/notifier'."
    ),
    "REDIS_URL": Rule(
        6,
        "redis_url",
        _is_redis_url,
        "An address such as 'redis://localhost:6379/0', in one of the forms of the service's NOTIFIER_BROKER_URL.",
    ),
    "PREFIX": Rule(
        7,
        "prefix",
        lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", v) is not None,
        "1 to 64 of A-Z a-z 0-9 . _ : - and the same as the service's NOTIFIER_PREFIX.",
    ),
    "SHARDS": Rule(8, "shards", _is_whole(1, 1024), "A whole number, the same as the service's NOTIFIER_SHARDS."),
    "HISTORY_SIZE": Rule(
        9, "history_size", _is_whole(1, 10_000), "A whole number, the same as the service's NOTIFIER_HISTORY_SIZE."
    ),
    "EVENT_HISTORY_SIZE": Rule(
        22,
        "event_history_size",
        _is_whole(1, 10_000),
        "A whole number, the same as the service's NOTIFIER_EVENT_HISTORY_SIZE.",
    ),
    "TASK_OUTPUT_BYTES": Rule(
        26,
        "task_output_bytes",
        _is_whole(16 * 1024, 1 << 30),
        "A whole number, the same as the service's NOTIFIER_TASK_OUTPUT_BYTES.",
    ),
    "TOPIC_HISTORY_SIZE": Rule(
        27,
        "topic_history_size",
        _is_whole(1, 10_000),
        "A whole number, the same as the service's NOTIFIER_TOPIC_HISTORY_SIZE.",
    ),
    "TOPIC_HISTORY_TTL_S": Rule(
        28,
        "topic_history_ttl_s",
        _is_whole(1, 10 * _YEAR_S),
        "Whole seconds, as the service's NOTIFIER_TOPIC_HISTORY_TTL_S.",
    ),
    "HISTORY_TTL_S": Rule(
        10, "history_ttl_s", _is_whole(1, 10 * _YEAR_S), "Whole seconds, as the service's NOTIFIER_HISTORY_TTL_S."
    ),
    "API_KEY": Rule(
        11,
        "api_key",
        lambda v: isinstance(v, str) and is_key(v),
        "One of the service's NOTIFIER_API_KEYS, without its scopes: 16 or more characters of ASCII, no ',' or ':'.",
    ),
    "JWT_SECRET": Rule(
        12,
        "jwt_secret",
        lambda v: isinstance(v, str) and len(v.encode(errors="replace")) >= MIN_SECRET_BYTES,
        f"The service's NOTIFIER_JWT_SECRET: text of at least {MIN_SECRET_BYTES} bytes, or several of such.",
    ),
    "TOKEN_TTL_S": Rule(13, "token_ttl_s", _is_whole(10, _YEAR_S), "Whole seconds, at least 10."),
    "TIMEOUT_S": Rule(
        14,
        "timeout_s",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0.1 <= v <= 60,
        "Seconds, from 0.1 to 60.",
    ),
    "RAISE": Rule(15, "raise_", lambda v: isinstance(v, bool), "True or False."),
    "USER_ID": Rule(16, "user_id", _is_function, "Dotted path of a function that takes a user and returns its id."),
    "OUTBOX": Rule(17, "outbox", lambda v: isinstance(v, bool), "True or False."),
    "DELIVERY": Rule(24, "delivery", lambda v: v in DELIVERIES, f"One of {', '.join(map(repr, DELIVERIES))}."),
    "TEST_TRANSPORT": Rule(
        18, "test_transport", lambda v: v in TRANSPORTS, f"One of {', '.join(map(repr, TRANSPORTS))}."
    ),
    "KEEP_MESSAGES": Rule(19, "keep_messages", lambda v: isinstance(v, bool), "True or False."),
    "USER_LANGUAGE": Rule(
        21, "user_language", _is_function, "Dotted path of a function that takes a user and returns a language code."
    ),
    "GROUPS": Rule(
        20, "groups", _is_function, "Dotted path of a function that takes a user and returns names of groups."
    ),
    "ERROR_TEXT": Rule(
        25,
        "error_text",
        lambda v: callable(v) or _is_function(v),
        "A function, or its dotted path, that takes an exception and returns the text that users see, or None.",
    ),
    "LIVE": Rule(
        29,
        "live",
        lambda v: isinstance(v, Mapping) and all(isinstance(key, str) and _is_function(v[key]) for key in v),
        "A dict from 'app.model' in lower case to the dotted path of a function that takes a user and an instance.",
    ),
    "MAY_CANCEL": Rule(
        23, "may_cancel", _is_function, "Dotted path of a function that takes a user and returns True or False."
    ),
    "REDIS_WAIT_REPLICAS": Rule(
        31,
        "redis_wait_replicas",
        _is_whole(0, 16),
        "A whole number from 0 to 16, the same as the service's NOTIFIER_REDIS_WAIT_REPLICAS.",
    ),
    "TASKS_GROUP": Rule(30, "tasks_group", _is_group, "The name of a group: 1 to 128 characters."),
}
_SECRETS: Final = frozenset(("API_KEY", "JWT_SECRET", "REDIS_URL"))
_NEEDED_BY: Final = {"http": ("URL", "API_KEY"), "redis": ("REDIS_URL",), "memory": ()}


def problems(raw: object) -> list[Problem]:
    """All errors in a value of `NOTIFIER`."""
    if not isinstance(raw, Mapping):
        text = "NOTIFIER is missing." if raw is None else f"NOTIFIER must be a dict, not {type(raw).__name__}."
        return [Problem(1, text, "NOTIFIER = {'TRANSPORT': 'http', 'URL': ..., 'API_KEY': ..., 'JWT_SECRET': ...}")]
    result = [_unknown(key) for key in raw if key not in RULES]
    for key, rule in RULES.items():
        if key in raw and not rule.holds(raw[key]):
            shown = "" if key in _SECRETS else f": {raw[key]!r}"
            result.append(Problem(rule.number, f"NOTIFIER[{key!r}] is invalid{shown}.", rule.hint))
    if "REDIS_URL" in raw and "SHARDS" in raw and not result:
        try:
            keys_of(parse_target(raw["REDIS_URL"]), "", raw["SHARDS"])
        except ValueError as exc:
            result.append(Problem(8, f"NOTIFIER['SHARDS'] does not fit NOTIFIER['REDIS_URL']: {exc}.", "Remove it."))
    transports = [raw.get("TRANSPORT", "http"), raw.get("TEST_TRANSPORT", "memory")]
    for transport in dict.fromkeys(name for name in transports if isinstance(name, str)):
        for key in _NEEDED_BY.get(transport, ()):
            if key not in raw:
                text = f"NOTIFIER[{key!r}] is missing, and the transport {transport!r} needs it."
                result.append(Problem(RULES[key].number, text, RULES[key].hint))
    return result


def _unknown(key: object) -> Problem:
    near = difflib.get_close_matches(str(key).upper(), RULES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(RULES)}."
    return Problem(2, f"NOTIFIER has the key {key!r}, which does not exist.", hint)
