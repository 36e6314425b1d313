"""A page that shows objects shows the newest state of each, or fetches it again, whatever happens to its stream,
to the processes of the service, and to their connections to Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.api import Api
from tests.faults.changes import Changes
from tests.faults.client_pages import client_pages
from tests.faults.clients import until
from tests.faults.conftest import FULL, Scale
from tests.faults.pages import Board, Page
from tests.faults.proxy import Proxy
from tests.faults.test_nothing_lost import roomy, worker_pids
from tests.support import RedisServer, Service, free_port

KINDS = ["redis", "redis, 3 shards", "sqlite", "memory"] if FULL else ["redis"]

GRANTS_S = (30, 120, 300) if FULL else (10, 30, 300)
"""Lives of grants. A page whose calls take longer than its grants live hears nothing: a busy machine is that slow."""


@dataclass
class Site:
    """A service that can be hit by faults."""

    start: Callable[[], Service]
    service: Service
    proxy: Proxy | None = None
    """Between the processes and Redis."""

    @property
    def faults(self) -> list[Callable[[], Awaitable[None]]]:
        if self.proxy is None:
            return [self.kill, self.restart]
        rare: list[Callable[[], Awaitable[None]]] = [self.cut_subscriptions, self.roll] if FULL else []
        return [self.kill_a_worker, *rare, self.cut_all_links]

    async def kill(self) -> None:
        self.service.process.child.kill()
        await self.restart()

    async def restart(self) -> None:
        await asyncio.to_thread(self.service.stop)
        self.service = await asyncio.to_thread(self.start)

    async def kill_a_worker(self) -> None:
        before = worker_pids(self.service)
        os.kill(before[0], signal.SIGKILL)
        await self._until(lambda pids: len(pids - {before[0]}) == len(before), "another worker")

    async def roll(self) -> None:
        before = set(worker_pids(self.service))
        self.service.process.signal(signal.SIGUSR2)
        await self._until(before.isdisjoint, "new workers")

    async def _until(self, condition: Callable[[set[int]], bool], what: str) -> None:
        """Wait until the processes of the workers are so. On a busy machine, the start of one takes a minute."""
        deadline = time.monotonic() + 300
        while not condition(set(worker_pids(self.service))):
            assert time.monotonic() < deadline, f"{what}\n{self.service.process.output()}"
            await asyncio.sleep(0.2)

    async def cut_subscriptions(self) -> None:
        assert self.proxy is not None
        assert self.proxy.cut(b"-sub")

    async def cut_all_links(self) -> None:
        assert self.proxy is not None
        assert self.proxy.cut(b"SETNAME")


@pytest.fixture(params=KINDS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    port, more, workers = free_port(), roomy(), 1
    async with contextlib.AsyncExitStack() as stack:
        proxy, url = None, ""
        if request.param.startswith("redis"):
            redis: RedisServer = request.getfixturevalue("redis_server")
            proxy = await stack.enter_async_context(Proxy(redis.port))
            url, workers = f"redis://127.0.0.1:{proxy.port}/0", 2
            more["NOTIFIER_SHARDS"] = "3" if "shards" in request.param else "1"
        elif request.param == "sqlite":
            more["NOTIFIER_BROKER_URL"] = f"sqlite://{tmp_path / 'notifier.db'}"

        def start() -> Service:
            return Service(redis_url=url, workers=workers, port=port, env=more)

        # In a thread: the proxy runs on this loop.
        started = Site(start, await asyncio.to_thread(start), proxy)
        try:
            yield started
        finally:
            await asyncio.to_thread(started.service.stop)


@dataclass
class Visitors:
    """Users who come, look at some objects, and go; each followed by another."""

    board: Board
    seed: random.Random
    api: Api
    pages: set[Page] = field(default_factory=set)
    visits: int = 0
    gaps: list[str] = field(default_factory=list)
    may_move: asyncio.Event = field(default_factory=asyncio.Event)

    async def come_and_go(self) -> None:
        while True:
            self.visits += 1
            seed, names = self.seed, list(self.board.versions)
            page = Page(
                urlsplit(self.board.url).port or 0, f"u{self.visits}", pause_s=seed.uniform(0.02, 0.3),
                board=self.board, api=self.api, in_query=seed.random() < 0.5, grant_s=seed.choice(GRANTS_S),
            )  # fmt: skip
            self.pages.add(page)
            page.visiting = visiting = asyncio.create_task(page.visit(seed.sample(names, seed.randint(1, 4))))
            try:
                for _ in range(seed.randint(1, 8)):
                    await asyncio.wait([visiting], timeout=seed.uniform(0, 1.5))
                    if visiting.done():
                        await visiting
                    await self.may_move.wait()
                    await self._do_something(page, seed.choice(names))
            finally:
                self.pages.discard(page)
                self.gaps += page.gaps
                page.leave()
                visiting.cancel()
                await asyncio.gather(visiting, return_exceptions=True)

    async def _do_something(self, page: Page, name: str) -> None:
        if name in page.parts:
            page.close(name)
        elif self.seed.random() < 0.5:
            await page.show(name)
        else:
            page.cut()

    async def see_the_newest(self) -> None:
        """Wait until every page shows the newest version of each of its objects."""
        self.may_move.clear()
        with contextlib.suppress(AssertionError):
            await until(lambda: not self._wrong(), 150)
        for page in self.pages:
            if page.visiting is not None and page.visiting.done():
                page.visiting.result()  # what ended it
        wrong = self._wrong()
        assert wrong == {}, "\n".join(page.report for page in self.pages if page.wrong)
        assert [*self.gaps, *(gap for page in self.pages for gap in page.gaps)] == []
        self.may_move.set()

    def _wrong(self) -> dict[str, list[str]]:
        return {page.user: page.wrong for page in self.pages if page.wrong}


@contextlib.asynccontextmanager
async def visited(board: Board, api: Api, seed: random.Random, pages: int) -> AsyncIterator[Visitors]:
    visitors = Visitors(board, seed, api)
    visitors.may_move.set()
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(visitors.come_and_go()) for _ in range(pages)]
            yield visitors
            for task in running:
                task.cancel()
    finally:
        await asyncio.gather(*board.unfinished)


@pytest.mark.programs
@pytest.mark.timeout(900)
async def test_every_page_shows_the_newest_state_after_any_fault(
    site: Site, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    prefix, rounds = uuid.uuid4().hex[:8], scale.whole(1, 2)
    versions = {f"{prefix}:{number}": 0 for number in range(scale.whole(12, 50))}
    board = Board(site.service.url, versions, seed)
    async with (
        Api(board.url) as api,
        client_pages(board.url, api, versions, seed, scale.whole(3, 20)) as clients,
        visited(board, api, seed, scale.whole(8, 200)) as visitors,
    ):
        changes = Changes(api, versions, seed)
        await until(lambda: board.seen["joins"] >= scale.whole(8, 200), 150, "the first joins")
        for strike in site.faults * rounds:
            async with changes.going_on(scale(60, 200), scale(0.7, 5)):
                await asyncio.sleep(seed.uniform(0.1, scale(0.6, 4)))
                await strike()
            await visitors.see_the_newest()
            await clients.see_the_newest()
    figure(
        pages=visitors.visits, faults=len(site.faults) * rounds, events=changes.published,
        events_per_s=changes.per_second, joins=board.seen["joins"], stale=board.seen["stale"],
        resets=board.seen["reset"], fetches=board.seen["fetches"], untold=len(visitors.gaps), wrong=0,
        pages_of_the_client=clients.visits, their_fetches=clients.seen["fetches"], their_wrong=0,
    )  # fmt: skip
