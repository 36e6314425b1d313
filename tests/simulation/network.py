"""Links between the processes and Redis: bytes in order, with latency, cut in pieces, blocked, lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.loop import LINKS_STEP_S, SimulatedLoop

LATENCY_S = (0.0002, 0.004)


class Session(Protocol):
    """The server's end of a link."""

    def receive(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Server(Protocol):
    """Accepts links."""

    def accept(self, link: Link) -> Session | None:
        """None: refused."""


class Pipe:
    """One direction of a link. Keeps the order of the bytes, not their portions."""

    def __init__(self, network: Network, deliver: Callable[[bytes], None]) -> None:
        self._network = network
        self._deliver = deliver
        self._queue: deque[bytes] = deque()
        self._last_s = 0.0
        self.extra_s = 0.0
        """Further latency."""
        self.blocked = False
        """True while nothing arrives: what is sent waits."""

    def send(self, data: bytes) -> None:
        self._queue.append(data)
        self._schedule()

    def unblock(self) -> None:
        self.blocked = False
        for _ in self._queue:
            self._schedule()

    def _schedule(self) -> None:
        loop = self._network.loop
        delay_s = self._network.chance.uniform(*LATENCY_S) + self.extra_s
        self._last_s = max(self._last_s + LINKS_STEP_S, loop.time() + delay_s)
        loop.arrive_at(self._last_s, self._arrive)

    def _arrive(self) -> None:
        if self.blocked or not self._queue:
            return
        data = self._queue.popleft()
        portion = self._network.chance.random()
        if portion < 0.05 and len(data) > 1:
            cut = self._network.chance.randrange(1, len(data))
            self._queue.appendleft(data[cut:])
            self._schedule()
            data = data[:cut]
        elif portion > 0.9 and self._queue:
            data += self._queue.popleft()
        self._deliver(data)

    def drop(self) -> None:
        self._queue.clear()


class Link(asyncio.Transport):
    """A connection: the client's transport, and its session at the server."""

    def __init__(self, network: Network, server: Server, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._network = network
        self.server = server
        self.protocol = protocol
        self.name = ""
        self.open = True
        self.session: Session | None = None
        self.to_server = Pipe(network, self._to_session)
        self.to_client = Pipe(network, self._to_protocol)

    def _to_session(self, data: bytes) -> None:
        if self.open and self.session is not None:
            self.session.receive(data)

    def _to_protocol(self, data: bytes) -> None:
        if self.open:
            self.protocol.data_received(data)

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.open:
            self.to_server.send(bytes(data))

    def is_closing(self) -> bool:
        return not self.open

    def abort(self) -> None:
        self.cut(None)

    def close(self) -> None:
        self.cut(None)

    def cut(self, exc: Exception | None) -> None:
        """End the link: unread bytes are gone. The client's protocol is called at the loop's next iteration."""
        if not self.open:
            return
        self.open = False
        self.to_server.drop()
        self.to_client.drop()
        del self._network.links[self]
        self._network.loop.call_soon(self.protocol.connection_lost, exc)
        if self.session is not None:
            self.session.end()


class Network:
    """All links, and the server to which the address leads."""

    def __init__(self, loop: SimulatedLoop, chance: Any) -> None:
        self.loop = loop
        self.chance = chance
        self.links: dict[Link, None] = {}
        self.server: Server | None = None
        """None: connections are refused."""
        self.unreachable = False
        """Attempts to connect get no answer."""
        loop.connect = self._connect

    async def _connect(self, factory: Callable[[], asyncio.Protocol]) -> tuple[Link, asyncio.Protocol]:
        await asyncio.sleep(self.chance.uniform(*LATENCY_S))
        while self.unreachable:
            await asyncio.sleep(1)
        server, protocol = self.server, factory()
        link = Link(self, server, protocol) if server is not None else None
        session = server.accept(link) if server is not None and link is not None else None
        if link is None or session is None:
            raise ConnectionRefusedError("connection refused")
        link.session = session
        self.links[link] = None
        protocol.connection_made(link)
        return link, protocol
