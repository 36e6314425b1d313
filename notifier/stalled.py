"""Tasks whose producer went silent: they are marked stalled, and later failed. A question that no producer waits for
any more gets its default as the answer.

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


class StalledTasks:
    """Looks for silent producers, for as long as the process runs."""

    def __init__(self, broker: Broker, *, stalled_s: float, failed_s: float) -> None:
        self._broker = broker
        self._stalled_s = stalled_s
        self._failed_s = failed_s
        self._interval_s = min(stalled_s / LOOKS_PER_STALLED_S, MAX_INTERVAL_S)

    async def watch_forever(self) -> None:
        """Look for silent producers until cancelled. After start-up or an outage, wait `stalled_s` first: heartbeats
        could not be received."""
        listening_since = time.monotonic()
        while True:
            # At random, so that the processes of a site do not look in step.
            await asyncio.sleep(self._interval_s * random.uniform(0.8, 1.2))
            if not self._broker.ready:
                listening_since = time.monotonic()
            elif time.monotonic() - listening_since >= self._stalled_s:
                with contextlib.suppress(BrokerUnavailable):
                    await self._look()

    async def _look(self) -> None:
        now_ms = int(time.time() * 1000)
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
