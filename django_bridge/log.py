"""A `logging.Handler` that shows log records to chosen users in their browsers.

    LOGGING = {"handlers": {"people": {"class": "django_bridge.log.NotifierHandler", "level": "ERROR"}}, ...}

Logging does not block: records go into a bounded queue, and a thread of this process sends them with its own database
connection (the caller's may be in a broken transaction). Records of that thread and of this package are ignored, so
that sending cannot cause more sending. Must not know: transports.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.utils.module_loading import import_string

from django_bridge.background import Worker
from django_bridge.texts import error_text
from notifier.rules import MAX_TITLE_CHARS

log = logging.getLogger("django_bridge")

MAX_QUEUED: Final = 100
"""Records that wait for the thread; further ones are dropped and counted."""
MAX_PLACES: Final = 1000
"""Places in the code whose last record's time is kept; all are forgotten when there are more."""
FLUSH_S: Final = 3.0
"""The longest that the end of the process waits for queued records."""
_OWN: Final = ("django_bridge", "notifier")

Recipients = Callable[[logging.LogRecord], Any]


class NotifierHandler(logging.Handler):
    """Sends a message for each record, to `to`: `"superusers"`, `"staff"`, `"group:<name>"`, or a function (or its
    dotted path) that takes the record and returns recipients as for a `Message`.

    At most `per_minute` messages per minute, and one per `repeat_s` seconds for the same place in the code; the next
    message gives the number of omitted records. Its text names the logger, the place and the exception, without
    traceback; a formatter replaces that text. `url` is the target of a click. Raises `ValueError` for any other `to`.
    """

    def __init__(
        self,
        level: int | str = logging.ERROR,
        *,
        to: str | Recipients = "superusers",
        per_minute: int = 10,
        repeat_s: float = 60.0,
        url: str | None = None,
    ) -> None:
        super().__init__(level)
        self._recipients = _recipients(to)
        self._rate = _Rate(per_minute, repeat_s)
        self._url = url
        self._sender = _sender()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record. Raises nothing: errors go to logging's `handleError`."""
        if record.name.partition(".")[0] in _OWN or self._sender.is_current_thread():
            return
        try:
            omitted = self._rate.admit(record)
            if omitted is None:
                return
            fields = _fields(record, omitted, self._url, self.formatter)
            if self._sender.pid != os.getpid():
                self._sender = _sender()
            if not self._sender.put(partial(_send, self._recipients, record, fields)):
                self._rate.omitted += 1 + omitted
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all queued records are sent, at most `FLUSH_S`. `logging` calls it at the end of the process."""
        self._sender.wait(FLUSH_S)


def _sender() -> Worker:
    return Worker("notifier-log", MAX_QUEUED)


class _Rate:
    """The rate limit. Not thread-safe: used under the handler's lock."""

    def __init__(self, per_minute: int, repeat_s: float) -> None:
        self._per_minute, self._repeat_s = per_minute, repeat_s
        self._room, self._at = float(per_minute), time.monotonic()
        self._last: dict[tuple[object, ...], float] = {}
        self.omitted = 0
        """Records omitted since the last admitted one."""

    def admit(self, record: logging.LogRecord) -> int | None:
        """The number of records omitted before this one; None if this one is omitted too."""
        now = time.monotonic()
        self._room = min(self._per_minute, self._room + (now - self._at) * self._per_minute / 60)
        self._at = now
        place = (record.name, record.levelno, record.pathname, record.lineno, record.exc_info and record.exc_info[0])
        if self._room < 1 or now - self._last.get(place, -self._repeat_s) < self._repeat_s:
            self.omitted += 1
            return None
        if len(self._last) >= MAX_PLACES:
            self._last.clear()
        self._last[place] = now
        self._room -= 1
        omitted, self.omitted = self.omitted, 0
        return omitted


def _recipients(to: str | Recipients) -> Recipients:
    if callable(to):
        return to
    if to in ("superusers", "staff"):
        flag = {"superusers": "is_superuser", "staff": "is_staff"}[to]
        return lambda record: _users(**{flag: True})
    if to.startswith("group:"):
        return lambda record: _group(to.removeprefix("group:"))
    if "." in to:
        return lambda record: import_string(to)(record)
    raise ValueError(f"to={to!r}: must be 'superusers', 'staff', 'group:<name>', or a function of the record")


def _users(**flags: bool) -> Any:
    from django.contrib.auth import get_user_model

    model = get_user_model()
    if any(field.name == "is_active" for field in model._meta.concrete_fields):  # else it is an attribute of the class
        flags["is_active"] = True
    return list(model._default_manager.filter(**flags).values_list("pk", flat=True))


def _group(name: str) -> Any:
    from django_bridge.recipients import group

    return group(name)


def _fields(
    record: logging.LogRecord, omitted: int, url: str | None, formatter: logging.Formatter | None
) -> dict[str, Any]:
    """The fields of the message without its recipients. Rendered at once, since the record's arguments may change."""
    first = error_text(record.getMessage()).strip().partition("\n")[0]
    lines = [formatter.format(record)] if formatter else [f"{record.name}, {record.pathname}:{record.lineno}"]
    request: Any = getattr(record, "request", None)
    if not formatter and hasattr(request, "method"):
        lines.append(f"{request.method} {request.path}")
    if not formatter and record.exc_info and record.exc_info[1]:
        lines.append(error_text(record.exc_info[1]))
    if omitted:
        lines.append(f"{omitted} more were left out before this one.")
    return {
        "subject": f"{record.levelname}: {first}"[:MAX_TITLE_CHARS],
        "text": error_text("\n".join(lines)),
        "level": _level(record.levelno),
        "url": url,
        "data": {"logger": record.name, "left_out": omitted},
    }


def _level(number: int) -> str:
    levels = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))
    return next((name for least, name in levels if number >= least), "debug")


def _send(recipients: Recipients, record: logging.LogRecord, fields: dict[str, Any]) -> None:
    from django_bridge import Message, publisher

    try:
        to = recipients(record)
        if to is not None and to != []:
            publisher.current().deliver(Message(to_users=to, **fields).payload())
    except Exception as exc:  # the thread goes on with the next record
        log.warning("a log record could not be sent: %s", error_text(exc))
