"""Pages over the real wire, as the browser client behaves.

A page reads the cursor, the state and a grant of each object that it shows, joins the object's topic with that cursor,
and reads the state again after an event, `stale` or `reset`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlencode

from notifier.auth import topic_grant
from notifier.load.connection import Answer
from tests.faults.api import Api, value_of
from tests.faults.clients import Listener, StreamEvent
from tests.support import JWT_SECRET, subscriber_token

T = TypeVar("T")
RETRY_S = 0.15
TRAVEL_S = 0.02
"""The longest time of a request to the application, and of its answer."""
MAX_GRANTS = 10
"""In the query of a stream: the others are added after its `hello`."""


class Board:
    """The application: objects with a version, each on a topic of its name, which has an event for each version."""

    def __init__(self, url: str, versions: dict[str, int], seed: random.Random) -> None:
        self.url = url
        self.seed = seed
        self.versions = versions
        self.seen: Counter[str] = Counter()
        self.unfinished: set[asyncio.Future[Any]] = set()

    async def finishing(self, running: Coroutine[Any, Any, T]) -> T:
        """Await what a cancel must not interrupt, since a connect that is cancelled may leave its socket open."""
        task = asyncio.ensure_future(running)
        self.unfinished.add(task)
        task.add_done_callback(self.unfinished.discard)
        return await asyncio.shield(task)


@dataclass(eq=False)
class Part:
    """An object on a page."""

    since: str
    """The cursor up to which the page shows all, or was told of it."""
    shown: int
    """The version on the page."""
    known: int
    """The newest version that is shown, or that the page was told of."""
    grant: str
    heard: bool = False
    told: bool = False
    """What is shown is to be fetched again."""


@dataclass(eq=False)
class Page(Listener):
    """A page of one user. `visit` renders it and keeps it up to date until it is cancelled."""

    board: Board = field(kw_only=True)
    api: Api = field(kw_only=True)
    in_query: bool = field(kw_only=True)
    """Puts the grants of what it hears into the query when it reconnects, so that the replay covers them."""
    grant_s: int = field(kw_only=True)
    """The life of its grants."""
    parts: dict[str, Part] = field(default_factory=dict)
    connection: str = ""
    visiting: asyncio.Task[None] | None = None
    gaps: list[str] = field(default_factory=list)
    """Versions that the page was not told of, and that a later event revealed."""
    calls: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    """The last calls and their statuses."""
    _leaving: list[str] = field(default_factory=list)
    _to_join: asyncio.Event = field(default_factory=asyncio.Event)
    _to_fetch: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def wrong(self) -> list[str]:
        """The objects that the page does not show in their newest version."""
        return [
            f"{name}: {part.shown} of {self.board.versions[name]}"
            for name, part in self.parts.items()
            if part.shown != self.board.versions[name]
        ]

    @property
    def report(self) -> str:
        """What the page knows, for a failure. On a machine that is too slow a page hears nothing; one that hears an
        object, and shows an old version of it, is a defect."""
        parts = [f"{name} {part.shown} since {part.since} heard {part.heard}" for name, part in self.parts.items()]
        place = f"{self.user} connection {self.connection} cursor {self.cursor} connects {self.connects}"
        return f"{place}, grants of {self.grant_s} s: {'; '.join(parts)}; calls: {[*self.calls]}"

    async def visit(self, names: list[str]) -> None:
        for name in names:
            await self.show(name)
        async with asyncio.TaskGroup() as group:
            for run in (self._connect, self._join, self._fetch):
                group.create_task(run())

    async def show(self, name: str) -> None:
        """Render an object: the cursor first, as the middleware does."""
        while (answer := await self._call("GET", "/v1/cursor")) is None:
            await asyncio.sleep(RETRY_S)
        since = value_of(answer)["cursor"]
        await self._travel()
        version = self.board.versions[name]
        await self._travel()
        self.parts[name] = Part(since, version, version, self._grant(name))
        self._to_join.set()

    def close(self, name: str) -> None:
        """Show an object no longer."""
        del self.parts[name]
        self._leaving.append(name)
        self._to_join.set()

    def _grant(self, name: str) -> str:
        return topic_grant(JWT_SECRET, self.user, [name], ttl_s=self.grant_s)

    async def _travel(self) -> None:
        await asyncio.sleep(self.board.seed.uniform(0, TRAVEL_S))

    async def _call(self, method: str, path: str, body: object = None) -> Answer | None:
        answer = await self.board.finishing(self.api.call(method, path, self._token, body))
        self.calls.append(f"{path} {answer and answer.status}")
        return answer

    @cached_property
    def _token(self) -> str:
        return subscriber_token(self.user)

    # The stream

    async def _connect(self) -> None:
        await self.board.finishing(self.run())

    async def _listen(self) -> None:
        heard = [name for name, part in self.parts.items() if part.heard and self.in_query][:MAX_GRANTS]
        self.query = f"?{urlencode([('grant', self.parts[name].grant) for name in heard])}" if heard else ""
        self._asked = set(heard)
        await super()._listen()

    def _take(self, event: StreamEvent) -> None:
        self.board.seen[event.type] += 1
        if event.type == "hello":
            self.connection = event.data["connection"]
            for name, part in self.parts.items():
                part.heard = name in self._asked
            self._to_join.set()
        elif event.type == "reset":
            self._tell(list(self.parts))
        elif event.type == "topics":
            for name in set(event.data["left"]) & self.parts.keys():
                self.parts[name].heard = False
                self.parts[name].grant = self._grant(name)
            self._to_join.set()
        elif event.type == "changed":
            self._note_version(event.data["topic"], event.data["version"])
        if event.id and event.type != "hello":
            for part in self.parts.values():
                if part.heard:
                    part.since = event.id

    def _note_version(self, topic: str, version: int) -> None:
        part = self.parts.get(topic)
        if part is None:
            return
        if part.heard and version > part.known + 1:
            self.gaps.append(f"{topic}: {version} after {part.known}")
        part.known = max(part.known, version)
        part.told = True
        self._to_fetch.set()

    def _tell(self, names: list[str]) -> None:
        for name in names:
            if (part := self.parts.get(name)) is not None:
                part.known = max(part.known, self.board.versions[name])
                part.told = True
        self._to_fetch.set()

    # What the page does about it

    async def _fetch(self) -> None:
        while True:
            await self._to_fetch.wait()
            self._to_fetch.clear()
            for name, part in list(self.parts.items()):
                if part.told:
                    part.told = False
                    await self._travel()
                    version = self.board.versions[name]
                    await self._travel()
                    part.shown = version
                    self.board.seen["fetches"] += 1

    async def _join(self) -> None:
        """Adds and removes one call at a time, so that no call overtakes another."""
        while True:
            await self._to_join.wait()
            self._to_join.clear()
            while self.connection and (self._leaving or not all(part.heard for part in self.parts.values())):
                if not await self._change():
                    await asyncio.sleep(RETRY_S)

    async def _change(self) -> bool:
        waiting = {name: part for name, part in self.parts.items() if not part.heard}
        since = next((part.since for part in waiting.values()), None)
        joining = {name: part for name, part in waiting.items() if part.since == since}
        leaving, connection = self._leaving, self.connection
        grants = [part.grant for part in joining.values()]
        body = {"connection": connection, "add": grants, "since": since}
        answer = await self._call("POST", "/v1/stream/topics", body | {"remove": leaving})
        if answer is None or connection != self.connection:
            return answer is not None
        if answer.status == 404:  # a hello follows, or the process with the stream is without its broker now
            return False
        if answer.status == 403:  # a grant has expired meanwhile
            for name, part in joining.items():
                part.grant = self._grant(name)
        else:
            changed = value_of(answer)
            self._leaving = self._leaving[len(leaving) :]
            for (name, part), grant in zip(joining.items(), grants, strict=True):
                # With another grant, the stream has told meanwhile that the topic was left.
                part.heard = name in changed["topics"] and part.grant == grant
                part.since = changed["cursor"] if part.heard else part.since
            self.board.seen["joins"] += len(joining)
            self.board.seen["stale"] += len(changed["stale"])
            self._tell(changed["stale"])
        return True
