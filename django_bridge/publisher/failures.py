"""What the log says about calls that fail: the first one, then their number, once a minute for each kind of error, and
the number of an outage when the service answers again.

Must not know: transports, which calls there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django_bridge.publisher.transport import Unreachable

log = logging.getLogger("django_bridge")

EVERY_S: Final = 60.0
"""Between two lines about failures of one kind."""
MAX_KINDS: Final = 100
"""Kinds of which the last line is remembered; when there are more, all are forgotten."""


@dataclass(slots=True)
class _Outage:
    """Calls that failed and may succeed when they are repeated: no answer, one that asks to retry, an open circuit."""

    began: float
    last: float
    failures: int = 0
    is_logged: bool = False
    """A line of one of these failures was written."""


class FailureLog:
    """Logs failures. An outage of the service is one line, one more for each minute in which calls failed, and one at
    its end. Outages that follow each other within `EVERY_S` share their lines."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}
        """For each kind, when the last line was written, and how many failures had none since."""
        self._outage: _Outage | None = None
        self._ended_at = -EVERY_S
        """When the end of an outage was last logged."""

    def failed(self, exc: Exception, text: str, *, level: int = logging.ERROR) -> None:
        """Log `text`, which says what failed and why, or count it if a line of this kind is younger than `EVERY_S`."""
        now, kind = self._clock(), type(exc).__name__
        with self._lock:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            at, omitted = self._kinds.get(kind, (now - EVERY_S, 0))
            is_due = now - at >= EVERY_S
            self._kinds[kind] = (now, 0) if is_due else (at, omitted + 1)
            if isinstance(exc, Unreachable):
                outage = self._outage = self._outage or _Outage(now, now)
                outage.last = now
                outage.failures += 1
                outage.is_logged |= is_due
        if not is_due:
            return
        if omitted:
            log.log(level, "%s (and %d more failed in the last %.0f s)", text, omitted, now - at)
        else:
            log.log(level, "%s", text)

    def succeeded(self) -> None:
        """The service has answered a call: log the end of an outage, with the number of its failures."""
        if self._outage is None:  # each call asks
            return
        now, kind = self._clock(), Unreachable.__name__
        with self._lock:
            outage = self._outage
            if outage is None or not (outage.is_logged or now - self._ended_at >= EVERY_S):
                return
            self._outage, self._ended_at = None, now
            if kind in self._kinds:
                self._kinds[kind] = (self._kinds[kind][0], 0)
        text = "the service answers again after %d failed call%s in %.0f s"
        log.warning(text, outage.failures, "" if outage.failures == 1 else "s", outage.last - outage.began)
