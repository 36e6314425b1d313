"""Producers that died: their tasks are shown as stalled, and later as failed.

Every process looks; a task is changed by compare-and-set, so one of them does it. Must not know: HTTP, streams, Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Final

from notifier.broker import Broker
from notifier.errors import BrokerUnavailable, Conflict, NotFound

log = logging.getLogger("notifier.silence")

LOOKS: Final = 6
"""In the time after which a task is stalled."""


class Silence:
    """Looks for silent producers, for as long as the process runs."""

    def __init__(self, broker: Broker, *, stalled_s: float, failed_s: float) -> None:
        self._broker = broker
        self._stalled_ms = int(stalled_s * 1000)
        self._failed_ms = int(failed_s * 1000)
        self._every_s = min(stalled_s / LOOKS, 5.0)
        self._patience_s = stalled_s

    async def watch_forever(self) -> None:
        """A broker that was away, or a service that did not run, heard nobody: then all get their time again."""
        listening_since = time.monotonic()
        while True:
            # At random, so that the processes of a site do not look in step.
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))
            if not self._broker.ready:
                listening_since = time.monotonic()
            elif time.monotonic() - listening_since >= self._patience_s:
                with contextlib.suppress(BrokerUnavailable):
                    await self._look()

    async def _look(self) -> None:
        now_ms = int(time.time() * 1000)
        for task_id in await self._broker.silent(now_ms - self._stalled_ms):
            with contextlib.suppress(NotFound, Conflict):
                await self._judge(task_id, now_ms)

    async def _judge(self, task_id: str, now_ms: int) -> None:
        task = await self._broker.change_task(
            task_id,
            lambda one: one.after_silence(now_ms=now_ms, stalled_ms=self._stalled_ms, failed_ms=self._failed_ms),
        )
        if task.updated_at_ms >= now_ms:
            log.warning("the producer of task %s is silent: %s", task.id, task.status)
