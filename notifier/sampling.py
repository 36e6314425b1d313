"""Which publishes carry the time of their acceptance: all while few come, one in sixteen of many.

So a process that delivers many events spends next to nothing on their latency, and a quiet one knows that of each.
Must not know: how the time is carried, what is done with it.
"""

from __future__ import annotations

import time
from typing import Final

QUIET_S: Final = 0.05
"""A publish that comes later after the last sample than this is a sample."""
ONE_IN: Final = 16
"""Of the others. By number and not by time: of a burst, its end counts as its beginning."""


class Sampling:
    """The choice for the publishes of one process."""

    __slots__ = ("_last_s", "_others")

    def __init__(self) -> None:
        self._last_s = 0.0
        self._others = 0

    def accepted_us(self) -> int:
        """The present in microseconds of Unix time, for the next publish; 0 if it is no sample."""
        now_s = time.time()
        if now_s - self._last_s < QUIET_S:
            self._others += 1
            if self._others < ONE_IN:
                return 0
        self._others = 0
        self._last_s = now_s
        return int(now_s * 1_000_000)
