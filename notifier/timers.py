"""Timers of a process's streams: heartbeats, and the end of each stream's life.

Must not know: brokers, topics, what is written at a heartbeat or an end.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from notifier.stream import Stream

TICK_S: Final = 0.05
"""Interval between calls of `run_due`. Each serves one slot of streams, so that none holds the event loop up."""
PORTION: Final = 32
"""Streams that end between two turns of the event loop."""


class StreamTimers:
    """Calls `ping` with each slot's streams once per `heartbeat_s`, and `expire` with a stream at its `ends_at`."""

    def __init__(
        self, heartbeat_s: float, *, ping: Callable[[Sequence[Stream]], None], expire: Callable[[Stream], None]
    ) -> None:
        self.tick_s = min(TICK_S, heartbeat_s / 5)
        self._ping = ping
        self._expire = expire
        self._slots: list[dict[Stream, None]] = [{} for _ in range(max(1, round(heartbeat_s / self.tick_s)))]
        self._added = 0
        self._by_end: dict[int, dict[Stream, None]] = {}
        """Streams by the (monotonic) second at which their life has ended."""
        self._started = time.monotonic()
        self._ticks = 0

    def add(self, stream: Stream) -> None:
        """Start the timers of a stream. Streams are spread evenly over the slots."""
        stream.slot = self._added % len(self._slots)
        self._added += 1
        self._slots[stream.slot][stream] = None
        self._by_end.setdefault(math.ceil(stream.ends_at), {})[stream] = None

    def remove(self, stream: Stream) -> None:
        self._slots[stream.slot].pop(stream, None)
        self._by_end.get(math.ceil(stream.ends_at), {}).pop(stream, None)

    def run_due(self) -> bool:
        """Ping the streams that are due; to be called every `tick_s`. True when a new second has begun."""
        # Ticks follow the clock, not the calls: a busy loop calls late, and heartbeats must not be late with it.
        due = int((time.monotonic() - self._started) / self.tick_s)
        for tick in range(max(self._ticks + 1, due + 1 - len(self._slots)), due + 1):
            self._ping(list(self._slots[tick % len(self._slots)]))
        is_new_second = int(due * self.tick_s) > int(self._ticks * self.tick_s)
        self._ticks = due
        return is_new_second

    async def expire_forever(self) -> None:
        """Expire streams until cancelled."""
        while True:
            await asyncio.sleep(1)
            await self.expire_due()

    async def expire_due(self) -> None:
        """Expire the streams whose life has ended, a portion in each turn of the event loop."""
        now = time.monotonic()
        for second in [second for second in self._by_end if second <= now]:
            while due := list(islice(self._by_end.get(second, ()), PORTION)):
                for stream in due:
                    self._expire(stream)
                    self.remove(stream)
                await asyncio.sleep(0)
            self._by_end.pop(second, None)


async def spread(
    streams: Iterable[Stream], end: Callable[[Stream], None], over_s: float, hurry: Callable[[], bool]
) -> None:
    """Call `end` with each stream, in random order and spread evenly over `over_s` seconds, until `hurry()`."""
    remaining = list(streams)
    random.shuffle(remaining)
    started, total = time.monotonic(), len(remaining)
    while remaining and not hurry():
        share = (time.monotonic() - started) / over_s if over_s > 0 else 1.0
        due = len(remaining) - total + int(total * min(1.0, share + 0.02))
        for _ in range(min(due, PORTION)):
            end(remaining.pop())
        await asyncio.sleep(0 if due > PORTION else min(0.05, over_s / 20))
