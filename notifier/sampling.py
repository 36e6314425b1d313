"""Which publishes carry the time of their acceptance: one in sixteen, at random, and the first of each process.

So the histogram of latencies costs less than a hundredth of a delivery, and shows every rate alike: were each publish
of a quiet hour timed, that hour would weigh sixteen times as much. Must not know: how the time is carried, what is done
with it.
"""

from __future__ import annotations

import random
import time
from typing import Final

ONE_IN: Final = 16
"""By number and not by time: of a burst, its end counts as its beginning."""


class Sampling:
    """The choice for the publishes of one process."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 1
        """Publishes up to the next sample. The distance is drawn, so that no publisher's rhythm is always met at the
        same beat."""

    def accepted_us(self) -> int:
        """The present in microseconds of Unix time, for the next publish; 0 if it is no sample."""
        self._left -= 1
        if self._left > 0:  # publishers of several threads may count past it
            return 0
        self._left = random.randint(1, 2 * ONE_IN - 1)
        return time.time_ns() // 1000
