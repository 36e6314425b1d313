"""The one settings dict, `NOTIFIER`, as a frozen value; what is wrong with it, in words.

Read when it is used and again whenever the dict has changed (`override_settings` works). Must not know: whoever uses
it.
"""

from __future__ import annotations

import copy
import difflib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, 3.2: a key of at least the hash's size for HS256."""
TRANSPORTS: Final = ("http", "redis", "memory")


@dataclass(frozen=True, slots=True)
class Settings:
    """`NOTIFIER`, checked. Each field is the key of the same name in capitals."""

    transport: Literal["http", "redis", "memory"] = "http"
    """How notifications leave: the service's HTTP API, Redis directly, or `django_bridge.testing.outbox`."""
    url: str = ""
    """Where this process reaches the service. Needed by `http`."""
    public_url: str = ""
    """Where browsers reach it; `URL` by default."""
    redis_url: str = field(default="", repr=False)
    """The service's own Redis. Needed by `redis`."""
    prefix: str = "notifier:"
    """`PREFIX`, `SHARDS`, `HISTORY_SIZE`, `HISTORY_TTL_S`: with `redis`, the same as the service's."""
    shards: int = 1
    history_size: int = 256
    history_ttl_s: int = 7 * 24 * 3600
    api_key: str = field(default="", repr=False)
    """One of the service's `NOTIFIER_API_KEYS`. Needed by `http`."""
    jwt_secret: str = field(default="", repr=False)
    """The service's `NOTIFIER_JWT_SECRET`. Needed by the template tag and the token view."""
    token_ttl_s: int = 3600
    """How long a subscriber's token holds."""
    timeout_s: float = 2.0
    """The longest that one notification may hold its caller, repeats included."""
    raise_: bool = False
    """`RAISE`: a notification that cannot be sent raises, instead of being logged."""
    outbox: bool = False
    """Messages are rows of the caller's transaction first, and wait in the table until they can be delivered."""
    keep_messages: bool = False
    """`KEEP_MESSAGES`: every message is kept in the database too, for the admin and the history page."""
    test_transport: Literal["http", "redis", "memory"] = "memory"
    """`TEST_TRANSPORT`: what takes the place of `TRANSPORT` while Django's test environment is set up."""
    user_id: str = ""
    """Dotted path of a function from a user to its id on the wire; `str(user.pk)` by default."""
    user_language: str = ""
    """Dotted path of a function from a user to the language of its texts, or None where it is not known."""
    groups: str = ""
    """Dotted path of a function from a user to the names of the groups it hears; by default its Django groups."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with `NOTIFIER`."""

    number: int
    """Of the system check `notifier.E...`."""
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


def _is_whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_key(value: Any) -> bool:
    # It becomes a header's value: printable ASCII without spaces.
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) is not None


def _is_function(path: Any) -> bool:
    try:
        return callable(import_string(path))
    except (ImportError, TypeError, AttributeError, ValueError):
        return False


_YEAR_S: Final = 366 * 24 * 3600
_is_http: Final = _is_url("http", "https")
_RULES: Final[Mapping[str, _Rule]] = {
    "TRANSPORT": _Rule(3, "transport", lambda v: v in TRANSPORTS, f"One of {', '.join(map(repr, TRANSPORTS))}."),
    "URL": _Rule(4, "url", _is_http, "The service's address, such as 'http://notifier:8000'."),
    "PUBLIC_URL": _Rule(
        5, "public_url", _is_http, "The service's address as browsers see it, such as 'https://example.org/notifier'."
    ),
    "REDIS_URL": _Rule(
        6, "redis_url", _is_url("redis", "rediss", "unix"), "An address such as 'redis://localhost:6379/0'."
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
    "HISTORY_TTL_S": _Rule(
        10, "history_ttl_s", _is_whole(1, 10 * _YEAR_S), "Whole seconds, as the service's NOTIFIER_HISTORY_TTL_S."
    ),
    "API_KEY": _Rule(11, "api_key", _is_key, "One of the service's NOTIFIER_API_KEYS, without its scopes."),
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
}
_SECRETS: Final = frozenset(("API_KEY", "JWT_SECRET", "REDIS_URL"))
_NEEDED_BY: Final = {"http": ("URL", "API_KEY"), "redis": ("REDIS_URL",), "memory": ()}


def faults(raw: object) -> list[Fault]:
    """Everything that is wrong with a value of `NOTIFIER`."""
    if not isinstance(raw, Mapping):
        text = "NOTIFIER is missing." if raw is None else f"NOTIFIER must be a dict, not {type(raw).__name__}."
        return [Fault(1, text, "NOTIFIER = {'TRANSPORT': 'http', 'URL': ..., 'API_KEY': ..., 'JWT_SECRET': ...}")]
    found = [_unknown(key) for key in raw if key not in _RULES]
    for key, rule in _RULES.items():
        if key in raw and not rule.holds(raw[key]):
            shown = "" if key in _SECRETS else f": {raw[key]!r}"
            found.append(Fault(rule.number, f"NOTIFIER[{key!r}] does not hold{shown}.", rule.hint))
    transports = [raw.get("TRANSPORT", "http"), raw.get("TEST_TRANSPORT", "memory")]
    for transport in dict.fromkeys(one for one in transports if isinstance(one, str)):
        for key in _NEEDED_BY.get(transport, ()):
            if key not in raw:
                text = f"NOTIFIER[{key!r}] is missing, and the transport {transport!r} needs it."
                found.append(Fault(_RULES[key].number, text, _RULES[key].hint))
    return found


def _unknown(key: object) -> Fault:
    near = difflib.get_close_matches(str(key).upper(), _RULES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(_RULES)}."
    return Fault(2, f"NOTIFIER has the key {key!r}, which does not exist.", hint)


def read(raw: object) -> Settings:
    """A value of `NOTIFIER` as `Settings`. Raises `ImproperlyConfigured` with everything that is wrong."""
    if found := faults(raw):
        raise ImproperlyConfigured(" ".join(f"{fault.text} {fault.hint}" for fault in found))
    assert isinstance(raw, Mapping)
    values = {rule.attribute: raw[key] for key, rule in _RULES.items() if key in raw}
    for name in ("url", "public_url"):
        values[name] = values.get(name, "").rstrip("/")
    values["public_url"] = values["public_url"] or values["url"]
    return Settings(**values)


class _Latest:
    known: tuple[object, bool, Settings] | None = None
    """The last dict that was read, whether under tests, and what it meant. One value: threads see all of it or none."""


def settings() -> Settings:
    """The present settings; under Django's test environment with `TEST_TRANSPORT` as the transport.

    Raises `ImproperlyConfigured`.
    """
    raw, tested = getattr(django_settings, "NOTIFIER", None), under_tests()
    # Compared by value: notices override_settings and a dict that was changed in place, without a signal.
    if (known := _Latest.known) and known[0] == raw and known[1] is tested:
        return known[2]
    made = read(raw)
    if tested:
        made = replace(made, transport=made.test_transport)
    _Latest.known = (copy.copy(raw), tested, made)
    return made


def under_tests() -> bool:
    """Whether Django's test environment is set up, by its own runner, by pytest-django or by anybody else.

    `mail.outbox` would tell as much, but the `locmem` e-mail backend makes one outside of tests too.
    """
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")
