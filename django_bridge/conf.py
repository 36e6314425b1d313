"""The settings dict `NOTIFIER` as a frozen value.

It is read on use, and again after the dict has changed (`override_settings` works). Must not know: its users.
"""

from __future__ import annotations

import copy
import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from django_bridge.conf_rules import RULES, problems
from notifier.jwt_secret import divided
from notifier.output import KEPT_BYTES

DEVELOPMENT_URL: Final = "http://127.0.0.1:8001"
NAMING_A_SERVICE: Final = frozenset({"TRANSPORT", "URL", "PUBLIC_URL", "API_KEY", "JWT_SECRET", "REDIS_URL"})
"""The keys of `NOTIFIER` that name a service: where one of them is given, none comes from `_for_development`."""


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
    redis_wait_replicas: int = 0
    """How many replicas of Redis must have a write before it counts as sent, as the service's
    `NOTIFIER_REDIS_WAIT_REPLICAS`; with `redis`."""
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
    """The service's `NOTIFIER_JWT_SECRET`, which may be several. Required by the template tag and the token view."""
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

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The secrets of `jwt_secret`: the first signs, and each verifies."""
        return divided(self.jwt_secret)


def read(raw: object) -> Settings:
    """A value of `NOTIFIER` as `Settings`. Raises `ImproperlyConfigured` with all errors in it."""
    if errors := problems(raw):
        raise ImproperlyConfigured(" ".join(f"{problem.text} {problem.hint}" for problem in errors))
    assert isinstance(raw, Mapping)
    values = {rule.attribute: raw[key] for key, rule in RULES.items() if key in raw}
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
    """`NOTIFIER` as the project has it. Where it names no service, a project under `DEBUG` has the one that `manage.py
    notifier` starts on this machine, with secrets made from its `SECRET_KEY`; `NOTIFIER_URL` in the environment is
    another address."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if raw is not None and not (isinstance(raw, Mapping) and NAMING_A_SERVICE.isdisjoint(raw)):
        return raw
    if not _is_debug():
        return raw
    return {
        **_for_development(django_settings.SECRET_KEY, os.environ.get("NOTIFIER_URL", DEVELOPMENT_URL)),
        **(raw or {}),
    }


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
