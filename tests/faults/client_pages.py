"""Pages by the browser client, in Node: `client_pages.js` runs them, and fetches their objects here.

Two pages that come one after the other are tabs of one user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator

from notifier.auth import topic_grant
from tests.faults.api import Api, value_of
from tests.faults.clients import until
from tests.faults.pages import RETRY_S, TRAVEL_S
from tests.support import JWT_SECRET, REPOSITORY, subscriber_token


class ClientPages:
    """What each page shows, compared with the newest versions."""

    def __init__(
        self, node: asyncio.subprocess.Process, api: Api, versions: dict[str, int], seed: random.Random
    ) -> None:
        self._node = node
        self._versions = versions
        self._seed = seed
        self._api = api
        self.shown: dict[int, dict[str, int]] = {}
        self.reports: dict[int, list[str]] = {}
        """What pages did last, of those that were asked."""
        self.visits = 0
        self.seen: Counter[str] = Counter()

    async def open(self, count: int) -> None:
        """Render pages of a few objects each: the cursor first, as the middleware does."""
        for _ in range(count):
            self.visits += 1
            page, user = self.visits, _user(self.visits)
            names = self._seed.sample(list(self._versions), self._seed.randint(1, 4))
            token = subscriber_token(user)
            while (answer := await self._api.call("GET", "/v1/cursor", token)) is None:
                await asyncio.sleep(RETRY_S)
            since = value_of(answer)["cursor"]
            shown = {name: self._versions[name] for name in names}
            self.shown[page] = dict(shown)
            grants = [self._grant(page, name) for name in names]
            self._tell(page=page, token=token, grants=" ".join(grants), since=since, shown=shown)

    def _grant(self, page: int, name: str) -> str:
        """One that ends soon is renewed."""
        return topic_grant(JWT_SECRET, _user(page), [name], ttl_s=self._seed.choice((75, 300)))

    def close(self, count: int) -> None:
        for page in self._seed.sample(sorted(self.shown), count):
            del self.shown[page]
            self._tell(page=page)

    def _tell(self, **command: object) -> None:
        assert self._node.stdin is not None
        self._node.stdin.write(f"{json.dumps(command)}\n".encode())

    async def follow(self) -> None:
        """Answer fetches, and note what pages show."""
        assert self._node.stdout is not None
        async with asyncio.TaskGroup() as fetches:
            async for line in self._node.stdout:
                match json.loads(line):
                    case {"page": page, "report": report}:
                        self.reports[page] = report
                    case {"page": page, "asked": asked, "topics": topics}:
                        self.seen["renewals"] += 1
                        self._tell(page=page, asked=asked, grants=[self._grant(page, name) for name in topics])
                    case {"page": page, "topic": topic, "version": version}:
                        if (shown := self.shown.get(page)) is not None:
                            shown[topic] = version
                    case {"page": page, "topic": topic}:
                        fetches.create_task(self._fetch(page, topic))
            raise AssertionError("the pages have ended")

    async def _fetch(self, page: int, topic: str) -> None:
        self.seen["fetches"] += 1
        await asyncio.sleep(self._seed.uniform(0, TRAVEL_S))
        version = self._versions[topic]
        await asyncio.sleep(self._seed.uniform(0, TRAVEL_S))
        self._tell(page=page, topic=topic, version=version)

    @property
    def wrong(self) -> dict[int, list[str]]:
        """The objects that pages do not show in their newest version."""
        wrong = {
            page: [f"{name}: {known} of {self._versions[name]}" for name, known in shown.items()
                   if known != self._versions[name]]
            for page, shown in self.shown.items()
        }  # fmt: skip
        return {page: names for page, names in wrong.items() if names}

    async def see_the_newest(self) -> None:
        """Wait until every page shows the newest version of each of its objects; some pages are followed by others."""
        self._tell()
        with contextlib.suppress(AssertionError):
            await until(lambda: not self.wrong or self._node.returncode is not None, 150)
        assert self._node.returncode is None, "the pages' process has ended"
        assert not self.wrong, await self._report()
        self.close(count := max(1, len(self.shown) // 4))
        await self.open(count)
        self._tell(steal=True)

    async def _report(self) -> str:
        """What the pages know that do not show the newest state."""
        wrong = dict(self.wrong)
        self._tell(report=list(wrong))
        await until(lambda: wrong.keys() <= self.reports.keys(), what="the reports of the pages")
        return "\n".join(f"page {page}: {names}\n  " + "\n  ".join(self.reports[page]) for page, names in wrong.items())


def _user(page: int) -> str:
    return f"client{page // 2}"


@contextlib.asynccontextmanager
async def client_pages(
    url: str, api: Api, versions: dict[str, int], seed: random.Random, count: int
) -> AsyncIterator[ClientPages]:
    script, pipe = REPOSITORY / "tests" / "faults" / "client_pages.js", asyncio.subprocess.PIPE
    node = await asyncio.create_subprocess_exec("node", script, url, stdin=pipe, stdout=pipe, limit=1 << 26)
    pages = ClientPages(node, api, versions, seed)
    following = asyncio.create_task(pages.follow())
    try:
        await pages.open(count)
        yield pages
        assert not following.done()
    finally:
        following.cancel()
        if node.returncode is None:
            node.kill()
        await node.wait()
        await asyncio.gather(following, return_exceptions=True)
