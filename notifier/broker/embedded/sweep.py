"""The removal of what has expired: a few objects at each write, again and again, so that no write takes long.

Must not know: what expires when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

STEPS: Final = 1
"""Steps for each object written. A step checks four."""
PASSES_A_LIFE: Final = 100
"""Passes in the shortest life of a history, at most: memory of what has expired is freed that much later."""


class Sweep:
    """Passes over what one broker keeps. passes: each checks every object of its kind once. shortest_s: the shortest
    life of a history."""

    def __init__(self, *passes: Callable[[], Iterator[None]], shortest_s: float) -> None:
        self._passes = passes
        self._pause_s = shortest_s / PASSES_A_LIFE
        self._again_at = 0.0
        self._steps = self._forever()

    def after(self, writes: int) -> None:
        """Do the steps for so many objects written, up to the end of the pass; none in the pause after it."""
        if time.monotonic() < self._again_at:
            return
        for is_over in islice(self._steps, STEPS * writes):
            if is_over:
                self._again_at = time.monotonic() + self._pause_s
                return

    def _forever(self) -> Iterator[bool]:
        """True at the end of each pass."""
        while True:
            for each in self._passes:
                for _ in each():
                    yield False
            yield True
