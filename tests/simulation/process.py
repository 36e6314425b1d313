"""One process of the service: a hub and a broker with their loops, streams as the endpoint attaches them."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from notifier.api.stream import FIRST_EVENT_S
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.values import History, Options
from notifier.event import Cursor
from notifier.hub import Hub
from notifier.transport import TransportStream
from tests.simulation.sockets import StreamTransport

if TYPE_CHECKING:
    from tests.simulation.world import World


class Process:
    """Started by `start`. `kill` loses everything at once, `drain` ends the streams first."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self._chance = world.chance(f"process-{name}")
        history = History(size=world.history_size, event_size=world.event_history_size, ttl_s=3600)
        options = Options(history=history, max_replay=world.max_replay, prefix="s:", shards=1)
        self.broker = RedisBroker.from_url("redis://simulated:6379", options)
        self.hub = Hub(
            self.broker,
            heartbeat_s=15,
            max_streams_per_user=10,
            max_streams_per_address=1000,
            max_backlog_bytes=world.max_backlog_bytes,
        )
        self.is_up = False
        self.transports: dict[StreamTransport, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._attaching: dict[asyncio.Task[None], None] = {}

    async def start(self) -> None:
        await self.broker.start(self.hub)
        loops = (
            self.hub.tick_forever(),
            self.hub.timers.expire_forever(),
            self.hub.reopen_forever(),
            self.broker.failed(),
        )
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        for task in self._tasks:
            task.add_done_callback(self._check)
        self.is_up = True

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._world.report(f"a loop of {self.name} ended: {task.exception()!r}")

    def accept(
        self, user: str, channels: tuple[str, ...], cursor: Cursor | None, capacity: int
    ) -> StreamTransport | None:
        topics = self.broker.topics(user, channels)
        if self.hub.refusal(topics[0], "") is not None:
            return None
        loop = self._world.loop
        transport = StreamTransport(loop, self._chance, capacity=capacity, report=self._world.report)
        stream = TransportStream(
            transport,
            b"",
            user=user,
            address="",
            channels=channels,
            topics=topics,
            cursor=cursor,
            ends_at=loop.time() + self._chance.uniform(30, 900),
            ends_why="rotate",
        )
        transport.on_lost = partial(self._lost, transport, stream)
        self.transports[transport] = None
        attaching = asyncio.create_task(self._attach(transport, stream))
        self._attaching[attaching] = None
        attaching.add_done_callback(self._attaching.pop)
        return transport

    def _lost(self, transport: StreamTransport, stream: TransportStream) -> None:
        self.transports.pop(transport, None)
        self.hub.detach(stream)

    async def _attach(self, transport: StreamTransport, stream: TransportStream) -> None:
        first_event = asyncio.get_running_loop().call_later(FIRST_EVENT_S, self.hub.begin, stream)
        try:
            if transport.is_open:
                await self.hub.attach(stream)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._world.report(f"attaching a stream failed: {exc!r}")
            transport.abort()
        finally:
            if stream.begun:
                first_event.cancel()

    async def drain(self, over_s: float) -> None:
        await self.hub.drain(over_s, lambda: False)
        await self.kill()

    async def kill(self) -> None:
        self.is_up = False
        for transport in list(self.transports):
            transport.abort()
        tasks = [*self._tasks, *self._attaching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(AttributeError):  # never started
            await self.broker.close()
