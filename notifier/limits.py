"""Limits of one process: the publish rate, a token bucket for each publisher; and users' calls, one at a time.

The response headers follow the IETF draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers): a
policy with its quota and window, and the remaining quota. Must not know: HTTP routes, brokers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from notifier.call import Headers
from notifier.errors import RateLimited

MAX_PUBLISHERS: Final = 10_000
"""Buckets kept. Over this number the fullest half is dropped: those publishers were idle longest."""
MAX_USER_CALLS: Final = 4
"""Calls of all users that are served at the same time. Each may read the histories of 64 channels."""
MAX_WAITING_CALLS: Final = 64
"""Calls of one user that wait for their turn; further ones are refused. A user's devices and tabs that all load at the
same moment have far fewer."""
RETRY_AFTER_S: Final = 1.0


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateLimit:
    """At most `per_second` items per second for each publisher, with bursts of twice that. 0: no limit."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = max(1.0, 2 * per_second)
        window_s = math.ceil(self._burst / per_second) if per_second else 0
        self._policy = (b"ratelimit-policy", b'"publish";q=%d;w=%d' % (self._burst, window_s))
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, publisher: str, items: int = 1) -> Headers:
        """Take `items` from the publisher's bucket; return the response headers. Raises `RateLimited`, taking none."""
        if not self._rate:
            return ()
        now = self._clock()
        bucket = self._buckets.get(publisher)
        if bucket is None:
            bucket = self._buckets[publisher] = _Bucket(self._burst, now)
            if len(self._buckets) > MAX_PUBLISHERS:
                self._forget_idle(now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        # A batch larger than the burst is allowed when the bucket is full, since it could never pass otherwise.
        wanted = min(items, self._burst)
        if bucket.left < wanted:
            wait_s = (wanted - bucket.left) / self._rate
            raise RateLimited(
                f"more than {self._rate:g} items per second; try again in {wait_s:.1f} s",
                retry_after_s=wait_s,
                headers=self._headers(bucket),
            )
        bucket.left -= items
        return self._headers(bucket)

    def _headers(self, bucket: _Bucket) -> Headers:
        left = max(0, int(bucket.left))
        full_in_s = math.ceil((self._burst - bucket.left) / self._rate)
        return self._policy, (b"ratelimit", b'"publish";r=%d;t=%d' % (left, full_in_s))

    def _forget_idle(self, now: float) -> None:
        by_fill = sorted(self._buckets, key=lambda name: self._buckets[name].left + (now - self._buckets[name].at))
        for name in by_fill[MAX_PUBLISHERS // 2 :]:
            del self._buckets[name]


@dataclass(slots=True)
class _Turns:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: int = 0
    """Calls that wait or are served."""


class UserCalls:
    """Lets one call of each user proceed at a time, and `MAX_USER_CALLS` of all users. The others wait, in order."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turns] = {}
        self._all = asyncio.Semaphore(MAX_USER_CALLS)

    @contextlib.asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Wait for the user's turn. Raises `RateLimited` if too many of the user's calls wait."""
        turns = self._turns.setdefault(user, _Turns())
        if turns.calls > MAX_WAITING_CALLS:
            raise RateLimited(f"{MAX_WAITING_CALLS} calls of this user are waiting", retry_after_s=RETRY_AFTER_S)
        turns.calls += 1
        try:
            async with turns.lock, self._all:
                yield
        finally:
            turns.calls -= 1
            if not turns.calls:
                del self._turns[user]
