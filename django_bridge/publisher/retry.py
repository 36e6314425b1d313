"""Retries within a time budget, and a circuit breaker.

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
"""With less than this left of the budget, a call is not tried again."""


def repeat(attempt: Callable[[float], T], budget_s: float, on_repeat: Callable[[], None]) -> T:
    """Try until `attempt` succeeds or `budget_s` is used up. Raises the last `Unreachable`, any other error at once."""
    deadline = time.monotonic() + budget_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            # On a loaded machine a pause may take longer than it should: no attempt gets a negative time.
            return attempt(max(SHORTEST_TRY_S, deadline - time.monotonic()))
        except Unreachable as exc:
            # Jitter, so that the workers of a site do not retry in step.
            wait_s = max(random.uniform(pause_s / 2, pause_s), exc.retry_after_s)
            if time.monotonic() + wait_s > deadline - SHORTEST_TRY_S:
                raise
        time.sleep(wait_s)
        pause_s *= 2
        on_repeat()


class Breaker:
    """Opens after `threshold` failures in a row; then allows one call per `open_s` seconds until a call succeeds."""

    def __init__(self, *, threshold: int = 3, open_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._next_try = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are refused now."""
        with self._lock:
            return self._failures >= self._threshold and self._clock() < self._next_try

    def allows(self) -> bool:
        """Whether a call may be tried now. Where the circuit is open, True is given once per `open_s`."""
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
