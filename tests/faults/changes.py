"""Publishers of objects' changes.

Each object's next version is published after the answer to the one before; the objects are published at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

from tests.faults.api import Api, value_of
from tests.support import API_KEY

RETRY_S = 0.15


class Changes:
    """Publishes changes of all objects. `versions` has the newest of each by name: pages are compared with it."""

    def __init__(self, api: Api, versions: dict[str, int], seed: random.Random) -> None:
        self._api = api
        self._versions = versions
        self._seed = seed
        self.published = self.refused = 0
        self._seconds = 0.0

    @contextlib.asynccontextmanager
    async def going_on(self, per_second: float, at_least_s: float) -> AsyncIterator[None]:
        """Change each object at its share of a rate during the block, for at least so long. What is due while the
        service is away is published late; all of it is answered at the end."""
        every_s, started = len(self._versions) / per_second, time.monotonic()
        ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            for name in self._versions:
                first = started + self._seed.random() * every_s
                group.create_task(self._change(name, first, every_s, ended))
            yield
            await asyncio.sleep(started + at_least_s - time.monotonic())
            ended.set_result(time.monotonic())
        self._seconds += time.monotonic() - started

    async def _change(self, name: str, due: float, every_s: float, ended: asyncio.Future[float]) -> None:
        while True:
            await asyncio.wait((ended,), timeout=max(0, due - time.monotonic()))
            if ended.done() and due > ended.result():
                return
            self._versions[name] += 1
            data = {"topic": name, "version": self._versions[name]}
            await self._send(f"{name}-{data['version']}", {"to": [f"topic:{name}"], "type": "changed", "data": data})
            due += every_s

    async def _send(self, key: str, body: dict[str, object]) -> None:
        """Repeated under its key until it is answered."""
        while (answer := await self._api.call("POST", "/v1/events", API_KEY, body, {"Idempotency-Key": key})) is None:
            self.refused += 1
            await asyncio.sleep(RETRY_S)
        value_of(answer)
        self.published += 1

    @property
    def per_second(self) -> int:
        """Published, from the first change to the answer of the last, also while the service was away."""
        return round(self.published / self._seconds)
