"""A deterministic event loop: its clock jumps to the next timer or arrival, and a seed decides all that may vary.

Callbacks that are ready run in asyncio's order. Arrivals on independent links come in a seeded order. No threads, no
sockets, no wall clock: `deterministic` replaces the clocks, ids and random numbers of the code under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import math
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

STARTED_S = 1_000.0
"""The clock's first value."""
UNIX_S = 1_800_000_000.0
"""The time of day at clock 0."""
LINKS_STEP_S = 1e-6
"""Least time between two arrivals on a link."""


class NothingScheduled(RuntimeError):
    """No callback, timer or arrival is left: the simulation would wait forever."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks as asyncio does, and is its own selector: `select` is where time passes."""

    def __init__(self, seed: object) -> None:
        super().__init__()
        self.chance = random.Random(f"{seed}-loop")
        self._now = STARTED_S
        self._arrivals: list[tuple[float, float, int, Callable[[], None]]] = []
        self._scheduled_arrivals = 0
        self._selector = self
        self.connect: Callable[..., Any] | None = None
        """The network's part of `create_connection`."""
        self.errors: list[str] = []
        """What asyncio would have logged: exceptions that no caller has seen."""
        self.set_exception_handler(lambda _, context: self.errors.append(repr(context)))

    def time(self) -> float:
        return self._now

    def arrive_at(self, at_s: float, callback: Callable[[], None]) -> None:
        """Call back at this time. Of several at the same time, the seed decides which is first."""
        self._scheduled_arrivals += 1
        heapq.heappush(self._arrivals, (at_s, self.chance.random(), self._scheduled_arrivals, callback))

    def freeze(self, pause_s: float) -> None:
        """The process gets no processor for this time: all timers and arrivals up to then are late."""
        self._now += pause_s

    def select(self, timeout: float | None) -> list[Callable[[], None]]:
        until = math.inf if timeout is None else self._now + timeout
        if self._arrivals and self._arrivals[0][0] <= until:
            self._now = max(self._now, self._arrivals[0][0])
        elif until == math.inf:
            raise NothingScheduled
        else:
            self._now = until
        due = []
        while self._arrivals and self._arrivals[0][0] <= self._now:
            due.append(heapq.heappop(self._arrivals)[3])
        return due

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for callback in event_list:
            self.call_soon(callback)

    async def create_connection(self, protocol_factory: Any, *address: Any, **_: Any) -> Any:  # type: ignore[override]
        assert self.connect is not None
        return await self.connect(protocol_factory)

    def run_in_executor(self, *_: Any) -> Any:
        raise AssertionError("the simulation has no threads")


@contextlib.contextmanager
def deterministic(loop: SimulatedLoop, seed: object) -> Iterator[None]:
    """Replace clocks, random ids and random numbers until the end of the block."""
    ids, drift = random.Random(f"{seed}-ids"), random.Random(f"{seed}-drift")

    def unix_time() -> float:
        return UNIX_S + loop.time()

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=ids.getrandbits(128), version=4)

    def perf_counter() -> float:
        # Measures work: here each reading passes a slice of a round with a chance of one in three.
        return loop.time() + drift.choice((0.0, 0.0, 0.001))

    state = random.getstate()
    random.seed(f"{seed}-global")
    patches = (
        mock.patch.object(time, "monotonic", loop.time),
        mock.patch.object(time, "time", unix_time),
        mock.patch.object(time, "perf_counter", perf_counter),
        mock.patch.object(uuid, "uuid4", uuid4),
        mock.patch.object(os, "urandom", ids.randbytes),
        mock.patch.object(os, "getpid", return_value=4242),  # its digits are in names, whose length is that of packets
    )
    gc.collect()
    gc.disable()  # it would end forgotten coroutines at some moment of its own
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        try:
            yield
        finally:
            random.setstate(state)
            gc.enable()
