"""A `logging.Handler` that tells chosen users of errors, in their browsers.

    LOGGING = {"handlers": {"people": {"class": "django_bridge.log.NotifierHandler", "level": "ERROR"}}, ...}

Whoever logs waits for nothing: what is to be told goes into a bounded queue, and a thread of this process delivers it,
with a database connection of its own (that of the caller may be in a broken transaction). What is logged while it
delivers, and by this package at any time, is not told. Must not know: transports.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.utils.module_loading import import_string

from django_bridge.texts import error_text
from notifier.rules import MAX_TITLE_CHARS

log = logging.getLogger("django_bridge")

WAITING: Final = 100
"""Records that wait for the thread; more are counted and dropped."""
REMEMBERED: Final = 1000
"""Places in the code whose last record is remembered."""
FLUSH_S: Final = 3.0
"""The longest that the end of the process waits for what is still to be told."""
_OWN: Final = ("django_bridge", "notifier")

Recipients = Callable[[logging.LogRecord], Any]


class NotifierHandler(logging.Handler):
    """Sends a message for each record, to `to`: `"superusers"`, `"staff"`, `"group:<name>"`, or a function (or its
    dotted path) that takes the record and returns what a `Message` takes.

    At most `per_minute` messages in a minute, and one in `repeat_s` seconds for the same place in the code; the next
    message says how many were left out. Its text names the logger, the place and the exception, without traceback;
    with a formatter it is what that makes. `url` is where a click leads. Raises `ValueError` for another `to`.
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
        self._teller = _Teller()

    def emit(self, record: logging.LogRecord) -> None:
        """Raises nothing; what goes wrong here is logging's `handleError`."""
        if record.name.partition(".")[0] in _OWN or self._teller.is_telling():
            return
        try:
            left_out = self._rate.admit(record)
            if left_out is None:
                return
            one = _Telling(self._recipients, record, _fields(record, left_out, self._url, self.formatter))
            if self._teller.pid != os.getpid():
                self._teller = _Teller()
            if not self._teller.put(one):
                self._rate.left_out += 1 + left_out
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Waits until everything is told, for at most `FLUSH_S`. `logging` calls it when the process ends."""
        self._teller.wait(FLUSH_S)


@dataclass(slots=True)
class _Telling:
    recipients: Recipients
    record: logging.LogRecord
    fields: dict[str, Any]


class _Teller:
    """The thread that delivers, and its queue. A forked child makes its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._queue: queue.Queue[_Telling] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def put(self, one: _Telling) -> bool:
        """Whether there was room. Called under the handler's lock."""
        try:
            self._queue.put_nowait(one)
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notifier-log", daemon=True)
            self._thread.start()
        return True

    def is_telling(self) -> bool:
        return threading.current_thread() is self._thread

    def wait(self, timeout_s: float) -> None:
        if self.pid == os.getpid() and not self.is_telling():
            with self._queue.all_tasks_done:
                self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, timeout_s)

    def _run(self) -> None:
        while True:
            one = self._queue.get()
            try:
                _tell(one)
            except Exception as fault:  # whatever it is, the next one is tried
                log.warning("an error could not be told: %s", error_text(fault))
            finally:
                self._queue.task_done()


class _Rate:
    """What may be told now. Not for several threads at once: the handler's lock is around it."""

    def __init__(self, per_minute: int, repeat_s: float) -> None:
        self._per_minute, self._repeat_s = per_minute, repeat_s
        self._room, self._at = float(per_minute), time.monotonic()
        self._last: dict[tuple[object, ...], float] = {}
        self.left_out = 0

    def admit(self, record: logging.LogRecord) -> int | None:
        """How many were left out before this one; None: this one is left out too."""
        now = time.monotonic()
        self._room = min(self._per_minute, self._room + (now - self._at) * self._per_minute / 60)
        self._at = now
        place = (record.name, record.levelno, record.pathname, record.lineno, record.exc_info and record.exc_info[0])
        if self._room < 1 or now - self._last.get(place, -self._repeat_s) < self._repeat_s:
            self.left_out += 1
            return None
        if len(self._last) >= REMEMBERED:
            self._last.clear()
        self._last[place] = now
        self._room -= 1
        left_out, self.left_out = self.left_out, 0
        return left_out


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
    raise ValueError(f"to={to!r}: it is 'superusers', 'staff', 'group:<name>', or a function of the record")


def _users(**flags: bool) -> Any:
    from django.contrib.auth import get_user_model

    return list(get_user_model()._default_manager.filter(is_active=True, **flags).values_list("pk", flat=True))


def _group(name: str) -> Any:
    from django_bridge.recipients import group

    return group(name)


def _fields(
    record: logging.LogRecord, left_out: int, url: str | None, formatter: logging.Formatter | None
) -> dict[str, Any]:
    """The message but for its recipients. What the record refers to is read now: later it may have changed."""
    first = error_text(record.getMessage()).strip().partition("\n")[0]
    lines = [formatter.format(record)] if formatter else [f"{record.name}, {record.pathname}:{record.lineno}"]
    request: Any = getattr(record, "request", None)
    if not formatter and hasattr(request, "method"):
        lines.append(f"{request.method} {request.path}")
    if not formatter and record.exc_info and record.exc_info[1]:
        lines.append(error_text(record.exc_info[1]))
    if left_out:
        lines.append(f"{left_out} more were left out before this one.")
    return {
        "subject": f"{record.levelname}: {first}"[:MAX_TITLE_CHARS],
        "text": error_text("\n".join(lines)),
        "level": _level(record.levelno),
        "url": url,
        "data": {"logger": record.name, "left_out": left_out},
    }


def _level(number: int) -> str:
    found = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))
    return next((word for least, word in found if number >= least), "debug")


def _tell(one: _Telling) -> None:
    from django.db import connections

    from django_bridge import Message, publisher

    try:
        to = one.recipients(one.record)
        if to is not None and to != []:
            publisher.current().deliver(Message(to_users=to, **one.fields).payload())
    finally:
        connections.close_all()
