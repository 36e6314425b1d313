"""The settings dict `NOTIFIER` as a frozen value, and its validation.

It is read on use, and again after the dict has changed (`override_settings` works). Must not know: its users.
"""

from __future__ import annotations

import copy
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string

from notifier import rules
from notifier.broker.redis.addresses import keys_of, parse_target
from notifier.errors import InvalidInput
from notifier.output import KEPT_BYTES

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, 3.2: an HS256 key has at least the size of the hash."""
TRANSPORTS: Final = ("http", "redis", "memory")
DELIVERIES: Final = ("background", "inline")
DEVELOPMENT_URL: Final = "http://127.0.0.1:8001"


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated `NOTIFIER`. Each field is the key of the same name in capitals."""

    transport: Literal["http", "redis", "memory"] = "http"
    """Where notifications are sent: to the service's HTTP API, to its Redis, or to `django_bridge.testing.outbox`."""
    url: str = ""
    """The service's address for this process. Required by `http`."""
    public_url: str = ""
    """The service's address for browsers; `URL` by default."""
    redis_url: str = field(default="", repr=False)
    """The service's own Redis, with the address that the service has. Required by `redis`."""
    prefix: str = "notifier:"
    """`PREFIX`, `SHARDS`, `HISTORY_SIZE`, `EVENT_HISTORY_SIZE`, `HISTORY_TTL_S`, `TOPIC_HISTORY_SIZE`,
    `TOPIC_HISTORY_TTL_S`, `TASK_OUTPUT_BYTES`: with `redis`, the service's values."""
    shards: int = 1
    history_size: int = 256
    event_history_size: int = 256
    history_ttl_s: int = 7 * 24 * 3600
    topic_history_size: int = 32
    topic_history_ttl_s: int = 900
    task_output_bytes: int = KEPT_BYTES
    api_key: str = field(default="", repr=False)
    """One of the service's `NOTIFIER_API_KEYS`. Required by `http`."""
    jwt_secret: str = field(default="", repr=False)
    """The service's `NOTIFIER_JWT_SECRET`. Required by the template tag and the token view."""
    token_ttl_s: int = 3600
    """Lifetime of a subscriber's token."""
    timeout_s: float = 2.0
    """The longest that one notification may block its caller, retries included."""
    raise_: bool = False
    """`RAISE`: a notification that cannot be sent raises instead of being logged."""
    outbox: bool = False
    """`OUTBOX`: a message is written as a row of the caller's transaction, and stays there until it is delivered."""
    delivery: Literal["background", "inline"] = "inline"
    """`DELIVERY`: `background` hands a notification to a thread of this process, so that callers never wait for the
    service; `inline` waits for the service's answer. By default `background` with `OUTBOX`."""
    keep_messages: bool = False
    """`KEEP_MESSAGES`: every message is also kept in the database, for the admin and the history page."""
    test_transport: Literal["http", "redis", "memory"] = "memory"
    """`TEST_TRANSPORT`: replaces `TRANSPORT` while Django's test environment is set up."""
    user_id: str = ""
    """Dotted path of a function from a user to its id on the wire; `str(user.pk)` by default."""
    user_language: str = ""
    """Dotted path of a function from a user to the language of its texts, or None where unknown."""
    groups: str = ""
    """Dotted path of a function from a user to the names of its groups; by default its Django groups."""
    error_text: str | Callable[[BaseException], Any] = ""
    """A function, or its dotted path, from the exception of a task to the text that users see, or None for the generic
    text; by default always that."""
    live: Mapping[str, str] = field(default_factory=dict)
    """By the kind of a topic (`app.model`, or the name up to the first colon), the dotted path of a function from a
    user and the instance (or the rest of the name) to True while the user may see it. Asked at a grant's renewal."""
    may_cancel: str = ""
    """Dotted path of a function from a user to True if it may cancel every task that it sees, also one sent to a group
    or to all. By default users cancel the tasks that were sent to them by name."""
    tasks_group: str = ""
    """`TASKS_GROUP`: a group to which every task is sent as well, for the board of tasks in the admin. Pages of the
    board hear it; no user needs to be in it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in `NOTIFIER`."""

    number: int
    """The number in the id of its system check, `notifier.E...`."""
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Rule:
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


def _is_key(value: Any) -> bool:
    # The value of a header: printable ASCII without spaces. In the service's list "," and ":" end a key.
    return isinstance(value, str) and re.fullmatch(r"(?![^,:]*[,:])[\x21-\x7e]{16,}", value) is not None


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
_RULES: Final[Mapping[str, _Rule]] = {
    "TRANSPORT": _Rule(3, "transport", lambda v: v in TRANSPORTS, f"One of {', '.join(map(repr, TRANSPORTS))}."),
    "URL": _Rule(4, "url", _is_http, "The service's address, such as 'http://notifier:8000'."),
    "PUBLIC_URL": _Rule(
        5, "public_url", _is_http, "The service's address as browsers see it, such as 'https://example.org/notifier'."
    ),
    "REDIS_URL": _Rule(
        6,
        "redis_url",
        _is_redis_url,
        "An address such as 'redis://localhost:6379/0', in one of the forms of the service's NOTIFIER_BROKER_URL.",
    ),
    "PREFIX": _Rule(
        7,
        "prefix",
        lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", v) is not None,
        "1 to 64 of A-Z a-z 0-9 . _ : - and the same as the service's NOTIFIER_PREFIX.",
    ),
    "SHARDS": _Rule(8, "shards", _is_whole(1, 1024), "A whole number, the same as the service's NOTIFIER_SHARDS."),
    "HISTORY_SIZE": _Rule(
        9, "history_size", _is_whole(1, 10_000), "A whole number, the same as the service's NOTIFIER_HISTORY_SIZE."
    ),
    "EVENT_HISTORY_SIZE": _Rule(
        22,
        "event_history_size",
        _is_whole(1, 10_000),
        "A whole number, the same as the service's NOTIFIER_EVENT_HISTORY_SIZE.",
    ),
    "TASK_OUTPUT_BYTES": _Rule(
        26,
        "task_output_bytes",
        _is_whole(16 * 1024, 1 << 30),
        "A whole number, the same as the service's NOTIFIER_TASK_OUTPUT_BYTES.",
    ),
    "TOPIC_HISTORY_SIZE": _Rule(
        27,
        "topic_history_size",
        _is_whole(1, 10_000),
        "A whole number, the same as the service's NOTIFIER_TOPIC_HISTORY_SIZE.",
    ),
    "TOPIC_HISTORY_TTL_S": _Rule(
        28,
        "topic_history_ttl_s",
        _is_whole(1, 10 * _YEAR_S),
        "Whole seconds, as the service's NOTIFIER_TOPIC_HISTORY_TTL_S.",
    ),
    "HISTORY_TTL_S": _Rule(
        10, "history_ttl_s", _is_whole(1, 10 * _YEAR_S), "Whole seconds, as the service's NOTIFIER_HISTORY_TTL_S."
    ),
    "API_KEY": _Rule(
        11,
        "api_key",
        _is_key,
        "One of the service's NOTIFIER_API_KEYS, without its scopes: 16 or more characters, no ',' and no ':'.",
    ),
    "JWT_SECRET": _Rule(
        12,
        "jwt_secret",
        lambda v: isinstance(v, str) and len(v.encode(errors="replace")) >= MIN_SECRET_BYTES,
        f"The service's NOTIFIER_JWT_SECRET: text of at least {MIN_SECRET_BYTES} bytes.",
    ),
    "TOKEN_TTL_S": _Rule(13, "token_ttl_s", _is_whole(10, _YEAR_S), "Whole seconds, at least 10."),
    "TIMEOUT_S": _Rule(
        14,
        "timeout_s",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0.1 <= v <= 60,
        "Seconds, from 0.1 to 60.",
    ),
    "RAISE": _Rule(15, "raise_", lambda v: isinstance(v, bool), "True or False."),
    "USER_ID": _Rule(16, "user_id", _is_function, "Dotted path of a function that takes a user and returns its id."),
    "OUTBOX": _Rule(17, "outbox", lambda v: isinstance(v, bool), "True or False."),
    "DELIVERY": _Rule(24, "delivery", lambda v: v in DELIVERIES, f"One of {', '.join(map(repr, DELIVERIES))}."),
    "TEST_TRANSPORT": _Rule(
        18, "test_transport", lambda v: v in TRANSPORTS, f"One of {', '.join(map(repr, TRANSPORTS))}."
    ),
    "KEEP_MESSAGES": _Rule(19, "keep_messages", lambda v: isinstance(v, bool), "True or False."),
    "USER_LANGUAGE": _Rule(
        21, "user_language", _is_function, "Dotted path of a function that takes a user and returns a language code."
    ),
    "GROUPS": _Rule(
        20, "groups", _is_function, "Dotted path of a function that takes a user and returns names of groups."
    ),
    "ERROR_TEXT": _Rule(
        25,
        "error_text",
        lambda v: callable(v) or _is_function(v),
        "A function, or its dotted path, that takes an exception and returns the text that users see, or None.",
    ),
    "LIVE": _Rule(
        29,
        "live",
        lambda v: isinstance(v, Mapping) and all(isinstance(key, str) and _is_function(v[key]) for key in v),
        "A dict from 'app.model' in lower case to the dotted path of a function that takes a user and an instance.",
    ),
    "MAY_CANCEL": _Rule(
        23, "may_cancel", _is_function, "Dotted path of a function that takes a user and returns True or False."
    ),
    "TASKS_GROUP": _Rule(30, "tasks_group", _is_group, "The name of a group: 1 to 128 characters."),
}
_SECRETS: Final = frozenset(("API_KEY", "JWT_SECRET", "REDIS_URL"))
_NEEDED_BY: Final = {"http": ("URL", "API_KEY"), "redis": ("REDIS_URL",), "memory": ()}


def problems(raw: object) -> list[Problem]:
    """All errors in a value of `NOTIFIER`."""
    if not isinstance(raw, Mapping):
        text = "NOTIFIER is missing." if raw is None else f"NOTIFIER must be a dict, not {type(raw).__name__}."
        return [Problem(1, text, "NOTIFIER = {'TRANSPORT': 'http', 'URL': ..., 'API_KEY': ..., 'JWT_SECRET': ...}")]
    result = [_unknown(key) for key in raw if key not in _RULES]
    for key, rule in _RULES.items():
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
                result.append(Problem(_RULES[key].number, text, _RULES[key].hint))
    return result


def _unknown(key: object) -> Problem:
    near = difflib.get_close_matches(str(key).upper(), _RULES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(_RULES)}."
    return Problem(2, f"NOTIFIER has the key {key!r}, which does not exist.", hint)


def read(raw: object) -> Settings:
    """A value of `NOTIFIER` as `Settings`. Raises `ImproperlyConfigured` with all errors in it."""
    if errors := problems(raw):
        raise ImproperlyConfigured(" ".join(f"{problem.text} {problem.hint}" for problem in errors))
    assert isinstance(raw, Mapping)
    values = {rule.attribute: raw[key] for key, rule in _RULES.items() if key in raw}
    for name in ("url", "public_url"):
        values[name] = values.get(name, "").rstrip("/")
    values["public_url"] = values["public_url"] or values["url"]
    if values.get("outbox"):
        values.setdefault("delivery", "background")
    return Settings(**values)


class _Latest:
    known: tuple[object, bool, Settings] | None = None
    """A copy of the last dict, whether it was read under tests, and its `Settings`. One tuple, so that threads never
    combine parts of two."""


def settings() -> Settings:
    """The current settings; in Django's test environment with `TEST_TRANSPORT` as the transport, and inline.

    Raises `ImproperlyConfigured`.
    """
    raw, tested = raw_settings(), under_tests()
    # Compared by value, to notice override_settings and a dict that was changed in place.
    if (known := _Latest.known) and known[0] == raw and known[1] is tested:
        return known[2]
    current = read(raw)
    if tested:
        current = replace(current, transport=current.test_transport, delivery="inline")
    _Latest.known = (copy.copy(raw), tested, current)
    return current


def raw_settings() -> object:
    """`NOTIFIER` as the project has it. Without it, a project under `DEBUG` has the service that `manage.py notifier`
    starts on this machine, with secrets made from its `SECRET_KEY`; `NOTIFIER_URL` in the environment is another
    address."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if raw is not None or not _is_debug():
        return raw
    return _for_development(django_settings.SECRET_KEY, os.environ.get("NOTIFIER_URL", DEVELOPMENT_URL))


@functools.cache
def _for_development(secret_key: str, url: str) -> dict[str, str]:
    names = ("API_KEY", "JWT_SECRET")
    secrets = {
        name: salted_hmac(f"django_bridge.{name}", "", secret_key, algorithm="sha256").hexdigest() for name in names
    }
    return {"URL": url, **secrets}


def _is_debug() -> bool:
    """`DEBUG`, also of a project whose tests run: Django's test runner sets it to False."""
    saved = getattr(_test_state(), "saved_data", None)
    return bool(django_settings.DEBUG or getattr(saved, "debug", False))


def under_tests() -> bool:
    """Whether Django's test environment is set up, by its own runner, by pytest-django or otherwise.

    `mail.outbox` is no sign of it: the `locmem` e-mail backend creates one outside tests too.
    """
    return hasattr(_test_state(), "saved_data")


def _test_state() -> object:
    return getattr(sys.modules.get("django.test.utils"), "_TestState", None)
