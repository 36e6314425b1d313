"""What the log says about calls that fail: the first one, then their number, once a minute for each kind of error.

Must not know: transports, which calls there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("django_bridge")

EVERY_S: Final = 60.0
"""Between two lines about failures of one kind."""
MAX_KINDS: Final = 100
"""Kinds of which the last line is remembered; when there are more, all are forgotten."""


class FailureLog:
    """Logs failures. An outage of the service is one line, and one more for each minute in which calls failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}
        """For each kind, when the last line was written, and how many failures had none since."""

    def failed(self, exc: Exception, text: str, *, level: int = logging.ERROR) -> None:
        """Log `text`, which says what failed and why, or count it if a line of this kind is younger than `EVERY_S`."""
        now, kind = self._clock(), type(exc).__name__
        with self._lock:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            at, omitted = self._kinds.get(kind, (now - EVERY_S, 0))
            if now - at < EVERY_S:
                self._kinds[kind] = (at, omitted + 1)
                return
            self._kinds[kind] = (now, 0)
        if omitted:
            log.log(level, "%s (and %d more failed in the last %.0f s)", text, omitted, now - at)
        else:
            log.log(level, "%s", text)
