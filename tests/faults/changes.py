"""Publishers of objects' changes. At a high rate they run in processes of their own: pages on the same event loop would
slow them down.

Each object's next version is published after the answer to the one before; the objects are published at the same time.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory

import httpx

from tests.support import API_KEY, bearer

RETRY_S = 0.15
SLICE_S = 0.25
"""The service is reachable in a slice of time in which it answers a publish."""


class Versions(Mapping[str, int]):
    """The newest version of each object, in memory that processes share."""

    def __init__(self, prefix: str, count: int, memory: str = "") -> None:
        self.prefix = prefix
        self.names = [f"{prefix}:{number}" for number in range(count)]
        self._places = {name: place for place, name in enumerate(self.names)}
        self._memory = SharedMemory(memory or None, create=not memory, size=8 * count)
        self._owns = not memory
        self._cells = self._memory.buf.cast("Q")

    def __getitem__(self, name: str) -> int:
        return int(self._cells[self._places[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def next(self, name: str) -> int:
        """The object has another version from now on. Each object has one publisher."""
        self._cells[self._places[name]] += 1
        return self[name]

    @property
    def memory(self) -> str:
        return self._memory.name

    def close(self) -> None:
        self._cells.release()
        self._memory.close()
        if self._owns:
            self._memory.unlink()


class Changes:
    """Publishes changes of all objects from some processes; 0: from this one."""

    def __init__(self, url: str, versions: Versions, seed: random.Random, processes: int) -> None:
        self._url = url
        self._versions = versions
        self._seed = seed
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes else None
        self._shares = [versions.names[number :: processes or 1] for number in range(processes or 1)]
        self.seen: Counter[str] = Counter()
        """`published`, `refused`, and `slices`: of time in which the service answered."""

    async def begin(self) -> None:
        """Start the processes, so that the first changes do not wait for them."""
        if self._pool is not None:
            await self.publish_for(0, 1)

    async def publish_for(self, seconds: float, per_second: float) -> None:
        """Change each object at its share of a rate, whatever the service answers meanwhile."""
        every_s = len(self._versions) / per_second
        seen = await asyncio.gather(*(self._publish(share, seconds, every_s) for share in self._shares))
        for published, refused, _ in seen:
            self.seen.update(published=published, refused=refused)
        self.seen["slices"] += len(set().union(*(slices for _, _, slices in seen)))

    async def _publish(self, share: list[str], seconds: float, every_s: float) -> tuple[int, int, set[int]]:
        number = self._seed.random()
        if self._pool is None:
            return await _Publishing(self._url, self._versions, seconds, every_s).run(share, random.Random(number))
        known = (self._url, self._versions.prefix, len(self._versions), self._versions.memory)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _publish, known, share, seconds, every_s, number)

    @property
    def per_second(self) -> int:
        """Published, of each second in which the service was reachable."""
        return round(self.seen["published"] / (self.seen["slices"] * SLICE_S)) if self.seen["slices"] else 0

    def end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _publish(
    known: tuple[str, str, int, str], names: list[str], seconds: float, every_s: float, seed: float
) -> tuple[int, int, set[int]]:
    """In a process of its own: what was published, what was refused, and the slices of time with an answer."""
    url, prefix, count, memory = known
    versions = Versions(prefix, count, memory)
    try:
        return asyncio.run(_Publishing(url, versions, seconds, every_s).run(names, random.Random(seed)))
    finally:
        versions.close()


class _Publishing:
    def __init__(self, url: str, versions: Versions, seconds: float, every_s: float) -> None:
        self._url = url
        self._versions = versions
        self._seconds = seconds
        self._every_s = every_s
        self._published = self._refused = 0
        self._slices: set[int] = set()

    async def run(self, names: list[str], seed: random.Random) -> tuple[int, int, set[int]]:
        async with httpx.AsyncClient(base_url=self._url, headers=bearer(API_KEY), timeout=15, verify=False) as client:
            await asyncio.gather(*(self._change(client, name, seed.random()) for name in names))
        return self._published, self._refused, self._slices

    async def _change(self, client: httpx.AsyncClient, name: str, turn: float) -> None:
        now = asyncio.get_running_loop().time
        started = now()
        while turn * self._every_s < self._seconds and now() < started + self._seconds:
            await asyncio.sleep(max(0, started + turn * self._every_s - now()))
            version = self._versions.next(name)
            data = {"topic": name, "version": version}
            body = {"to": [f"topic:{name}"], "type": "changed", "data": data}
            await self._send(client, f"{name}-{version}", body)
            turn += 1

    async def _send(self, client: httpx.AsyncClient, key: str, body: dict[str, object]) -> None:
        """Repeated under its key until it is answered."""
        while True:
            try:
                answer = await client.post("/v1/events", json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code not in (429, 503):
                assert answer.status_code == 200, answer.text
                self._published += 1
                self._slices.add(math.floor(asyncio.get_running_loop().time() / SLICE_S))
                return
            self._refused += 1
            await asyncio.sleep(RETRY_S)
