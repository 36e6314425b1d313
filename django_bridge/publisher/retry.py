"""When to try again and when to stop trying: repeats within a time budget, and a circuit breaker.

Must not know: transports, settings.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django_bridge.publisher.transport import Unreachable

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.05
SHORTEST_TRY_S: Final = 0.02
"""With less than this left of the budget, another try is not worth its connection."""


def repeat(attempt: Callable[[float], T], budget_s: float, on_repeat: Callable[[], None]) -> T:
    """Tries until it works or `budget_s` is over; raises the last `Unreachable`, and any other error at once."""
    deadline = time.monotonic() + budget_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return attempt(deadline - time.monotonic())
        except Unreachable as fault:
            # At random, so that the workers of a whole site do not come back in step.
            wait_s = max(random.uniform(pause_s / 2, pause_s), fault.retry_after_s)
            if time.monotonic() + wait_s > deadline - SHORTEST_TRY_S:
                raise
        time.sleep(wait_s)
        pause_s *= 2
        on_repeat()


class Breaker:
    """Opens after `threshold` failures in a row; then lets one call through every `open_s` seconds, until one works."""

    def __init__(self, *, threshold: int = 3, open_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    @property
    def open(self) -> bool:
        """Whether a call that came now would not be tried."""
        with self._lock:
            return self._failures >= self._threshold and self._clock() < self._next_try

    def allows(self) -> bool:
        """Whether a call may be tried now."""
        with self._lock:
            if self._failures < self._threshold:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._open_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._next_try = self._clock() + self._open_s
