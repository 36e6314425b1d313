"""Tasks whose producer went silent: they are marked stalled, and later failed. A question that is not answered in time
gets its default as the answer, also where no producer waits for it any more.

Every process looks; a task is changed by compare-and-set, so one process succeeds. Must not know: HTTP, streams, Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Final

from notifier.asking import expired
from notifier.broker import Broker
from notifier.errors import BrokerUnavailable, Conflict, NotFound

log = logging.getLogger("notifier.stalled")

LOOKS_PER_STALLED_S: Final = 6
MAX_INTERVAL_S: Final = 5.0
DEADLINES_S: Final = 1.0
"""Longest time between two looks for questions whose deadline is near."""
AHEAD_MS: Final = 1500
"""The part of the future that such a look reads: further than to the next look, which comes at the deadline."""
MIN_PAUSE_S: Final = 0.2


class StalledTasks:
    """Looks for silent producers and late questions, for as long as the process runs."""

    def __init__(self, broker: Broker, *, stalled_s: float, failed_s: float) -> None:
        self._broker = broker
        self._stalled_s = stalled_s
        self._failed_s = failed_s
        self._interval_s = min(stalled_s / LOOKS_PER_STALLED_S, MAX_INTERVAL_S)
        self._deadline_ms: int | None = None
        """The earliest deadline of an open question, as far as the last look read."""

    async def watch_forever(self) -> None:
        """Look until cancelled. After start-up or an outage, wait `stalled_s` before a producer counts as silent:
        heartbeats could not be received."""
        listening_since = look_at = time.monotonic()
        while True:
            await asyncio.sleep(self._pause_s())
            if not self._broker.ready:
                listening_since = time.monotonic()
                continue
            with contextlib.suppress(BrokerUnavailable):
                await self._answer_late_questions()
            if time.monotonic() >= max(look_at, listening_since + self._stalled_s):
                # At random, so that the processes of a site do not look in step.
                look_at = time.monotonic() + self._interval_s * random.uniform(0.8, 1.2)
                with contextlib.suppress(BrokerUnavailable):
                    await self._look()

    def _pause_s(self) -> float:
        """Until the next deadline, but not longer than until the next look."""
        pause_s = min(DEADLINES_S, self._interval_s) * random.uniform(0.8, 1.0)
        if self._deadline_ms is not None:
            left_s = (self._deadline_ms - _now_ms()) / 1000 + random.uniform(0.01, 0.1)
            pause_s = min(pause_s, max(MIN_PAUSE_S, left_s))
        return pause_s

    async def _answer_late_questions(self) -> None:
        now_ms, self._deadline_ms = _now_ms(), None
        deadlines: list[int] = []
        for task_id in await self._broker.due_questions(now_ms + AHEAD_MS):
            # A call that was refused for one task does not delay the others, and is repeated at the next look.
            with contextlib.suppress(NotFound, Conflict, BrokerUnavailable):
                task = await self._broker.change_task(task_id, lambda stored: expired(stored, now_ms=now_ms))
                if task.question is not None:
                    deadlines.append(task.question.expires_at_ms)
        self._deadline_ms = min(deadlines, default=None)

    async def _look(self) -> None:
        now_ms = _now_ms()
        for task_id in await self._broker.stalled_tasks(now_ms - int(self._stalled_s * 1000)):
            # A call that was refused for one task does not delay the others.
            with contextlib.suppress(NotFound, Conflict, BrokerUnavailable):
                await self._update(task_id, now_ms)

    async def _update(self, task_id: str, now_ms: int) -> None:
        stalled_ms, failed_ms = int(self._stalled_s * 1000), int(self._failed_s * 1000)
        task = await self._broker.change_task(
            task_id,
            lambda stored: (
                expired(stored, now_ms=now_ms)
                if stored.question
                else stored.stalled_or_failed(now_ms=now_ms, stalled_ms=stalled_ms, failed_ms=failed_ms)
            ),
        )
        if task.updated_at_ms >= now_ms and task.status != "running":
            log.warning("the producer of task %s is silent: %s", task.id, task.status)


def _now_ms() -> int:
    return int(time.time() * 1000)
