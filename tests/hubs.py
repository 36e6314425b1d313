"""A hub between a scripted broker and streams, which are on a fake transport or on real sockets.

The broker keeps a log, so that a stream resumes from its cursor as with a real broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.event import Cursor
from notifier.frames import PING_FRAME
from notifier.hub import Hub
from notifier.task import Task
from notifier.transport import TransportStream
from tests.test_stream import Wall

EPOCH = "e"


class ScriptedBroker:
    """The part of a broker that a hub calls. `open` answers once `gate` is set, or raises `away` if there is one."""

    shards = 1

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.seq = 0
        self.log: list[tuple[int, str, bytes]] = []
        """(seq, channel, stored frame)"""
        self.low = 0
        """The newest seq that is no longer in the log."""
        self.keys: dict[int, tuple[str, str]] = {}
        """Repeat key and channel of the events that have one, by seq."""
        self.tasks_now: tuple[Task, ...] = ()
        self.revoked = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.away: Exception | None = None
        self.is_ready = True
        self.subscribed: set[str] = set()
        self.opened: list[str] = []
        """Users of the calls of `open`, in order."""
        self.opening_now = 0
        self.most_at_once = 0

    @property
    def ready(self) -> bool:
        return self.is_ready

    def shard_of(self, user: str) -> int:
        return 0

    def order_of(self, topic: str) -> str:
        """The topic's text before a brace."""
        return topic.partition("}")[0] if "}" in topic else ""

    async def subscribe(self, topics: Sequence[str]) -> None:
        self.subscribed.update(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.subscribed.difference_update(topics)

    async def open(
        self,
        user: str,
        channels: Sequence[str],
        cursor: Cursor | str | None,
        *,
        subscribe: bool = False,
        portion_bytes: int = 0,
        continued: bool = False,
        joined: Mapping[str, int] | None = None,
    ) -> Opening:
        if subscribe:
            await self.subscribe(channels)
        self.opened.append(user)
        self.opening_now += 1
        self.most_at_once = max(self.most_at_once, self.opening_now)
        try:
            await self.gate.wait()
        finally:
            self.opening_now -= 1
        if self.away is not None:
            raise self.away
        replay: list[tuple[int, bytes]] = []
        verdict = "new"
        if isinstance(cursor, Cursor) and cursor.epoch == self.epoch:
            verdict = "ok" if cursor.seq >= self.low else "history_trimmed"
        if isinstance(cursor, Cursor) and verdict == "ok":
            replay = [(seq, frame) for seq, channel, frame in self.log if channel in channels and seq > cursor.seq]
        elif cursor is not None and verdict == "new":
            verdict = "epoch_changed" if isinstance(cursor, Cursor) else "cursor_unknown"
        portion = _portion(replay, portion_bytes)
        more = len(portion) < len(replay)
        return Opening(
            verdict,
            Cursor(self.epoch, portion[-1][0] if more else self.seq),
            portion,
            0,
            () if continued and more else self.tasks_now,
            {},
            self.revoked,
            more=more,
            missed=len(replay),
            keys={seq: self.keys[seq] for seq, _ in portion if seq in self.keys},
        )

    def trim(self) -> None:
        """Remove all events from the log, as newer ones would."""
        self.log, self.low = [], self.seq

    def publish(self, hub: Hub, channel: str, text: str = "", *, key: str = "", announced: bool = True) -> int:
        """Store an event and announce it, unless the announcement is to be lost. Returns its seq."""
        self.seq += 1
        frame = f"event: x\ndata: {text or self.seq}\n\n".encode()
        self.log.append((self.seq, channel, frame))
        if key:
            self.keys[self.seq] = (key, channel)
        if announced:
            wire = f"id: {self.epoch}-{self.seq}\n".encode() + frame
            hub.deliver(channel, self.epoch, self.seq, key, wire)
        return self.seq


def _portion(replay: list[tuple[int, bytes]], most_bytes: int) -> list[tuple[int, bytes]]:
    """The first events that fit, at least one; all if the bound is 0."""
    size, count = 0, 0 if most_bytes else len(replay)
    while count < len(replay) and (count == 0 or size + len(replay[count][1]) <= most_bytes):
        size += len(replay[count][1])
        count += 1
    return replay[:count]


def missed(broker: ScriptedBroker, count: int, size: int) -> Cursor:
    """Fill the log with `count` events; return the cursor of a client that has none of them."""
    text = "r" * size
    start = Cursor(broker.epoch, broker.seq)
    for _ in range(count):
        broker.seq += 1
        broker.log.append((broker.seq, "all", f"event: x\ndata: {broker.seq}-{text}\n\n".encode()))
    return start


def state(hub: Hub, channel: str, key: str, text: str) -> None:
    """Announce a state: a frame without id, of which only the newest counts."""
    hub.deliver_state(channel, key, f"event: task\ndata: {text}\n\n".encode())


@contextlib.asynccontextmanager
async def running_hub(broker: Broker | ScriptedBroker, **limits: Any) -> AsyncIterator[Hub]:
    """A hub whose loops run, as in the service, with a short heartbeat."""
    settings = {
        "heartbeat_s": 0.25,
        "max_streams_per_user": 10_000,
        "max_streams_per_address": 10_000,
        "max_backlog_bytes": 1 << 20,
        **limits,
    }
    hub = Hub(broker, **settings)
    loops = [asyncio.create_task(hub.tick_forever()), asyncio.create_task(hub.reopen_forever())]
    loops.append(asyncio.create_task(hub.timers.expire_forever()))
    loops.append(asyncio.create_task(hub.people.run_forever()))
    try:
        yield hub
        for loop in loops:
            assert not loop.done(), "a loop of the hub ended"
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


def stream_on(
    transport: asyncio.WriteTransport,
    user: str = "ann",
    topics: tuple[str, ...] = ("all",),
    cursor: Cursor | str | None = None,
) -> TransportStream:
    return TransportStream(
        transport,
        b"",
        user=user,
        address="",
        channels=topics,
        topics=topics,
        cursor=cursor,
        ends_at=time.monotonic() + 600,
        ends_why="rotate",
    )


async def attach_crowd(hub: Hub, size: int, topic: str = "all") -> list[Wall]:
    """Attach streams whose readers accept everything; with more than 64, a frame to the topic goes out in a round."""
    walls = [Wall() for _ in range(size)]
    for number, wall in enumerate(walls):
        await hub.attach(stream_on(wall, f"crowd-{number}", (topic,)))
    return walls


# The client's side


class Body:
    """Parses a chunked body piece by piece."""

    def __init__(self, *, pings: bool = False) -> None:
        self._pings = pings
        self.events: list[str] = []
        """`type:data` for events of type `x` and for states, else `type`. Without pings, unless asked for."""
        self.blocks: list[str] = []
        self._rest = b""
        self._content = b""

    def feed(self, data: bytes) -> None:
        rest, at = self._rest + data, 0
        while (line := rest.find(b"\r\n", at)) >= 0:
            end = line + 2 + int(rest[at:line], 16)
            if len(rest) < end + 2:
                break
            assert rest[end : end + 2] == b"\r\n", "a chunk does not end at its declared size"
            self._content += rest[line + 2 : end]
            at = end + 2
        self._rest = rest[at:]
        *blocks, self._content = self._content.split(b"\n\n")
        for block in blocks:
            self._take(block.decode())

    def _take(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        name, data = fields["event"], fields["data"]
        if name != "ping" or self._pings:
            self.blocks.append(block)
            self.events.append(f"{name}:{data}" if name == "x" or data[0] != "{" else name)


def body_of(wall: Wall, *, pings: bool = False) -> Body:
    body = Body(pings=pings)
    body.feed(b"".join(wall.written))
    return body


def received(wall: Wall) -> list[str]:
    return body_of(wall).events


async def soon(condition: Callable[[], Any]) -> None:
    """Wait for a condition that becomes true within a few iterations of the loop; return in that iteration."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition is still false after a thousand iterations of the loop")


class Client:
    """The client end of a real connection. Reads only when a test calls it."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.ended = False
        self._body = Body()

    def read(self, most: int = 1 << 30) -> int:
        """Read what has arrived, up to `most` bytes. Returns the number of bytes."""
        size = 0
        while size < most and not self.ended:
            try:
                data = self.socket.recv(min(most - size, 1 << 16))
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            self.ended = not data
            self._body.feed(data)
            size += len(data)
        return size

    @property
    def received(self) -> list[str]:
        self.read()
        return self._body.events

    @property
    def blocks(self) -> list[str]:
        """The received events as they were sent."""
        self.read()
        return self._body.blocks

    def of(self, kind: str) -> list[str]:
        """The data of all events of a type, which is `x` or that of a state."""
        return [event.partition(":")[2] for event in self.received if event.partition(":")[0] == kind]


def read_all(clients: Sequence[Client]) -> bool:
    """Let every client read what has arrived. Returns True."""
    for client in clients:
        client.read()
    return True


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.on_lost: Callable[[], None] = lambda: None
        self.on_drained: Callable[[], None] | None = None

    def resume_writing(self) -> None:
        if (on_drained := self.on_drained) is not None:
            self.on_drained = None
            on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_lost()


class Sockets:
    """Real connections, closed at the end: `async with Sockets(hub) as sockets:`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ends: list[socket.socket] = []
        self._transports: list[asyncio.BaseTransport] = []
        self.writes: Counter[str] = Counter()
        """Direct writes to the kernel, by user; without pings."""

    async def __aenter__(self) -> Sockets:
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self._transports:
            transport.abort()  # type: ignore[attr-defined]
        for end in self._ends:
            end.close()
        await asyncio.sleep(0)

    async def connect(
        self,
        user: str = "ann",
        topics: tuple[str, ...] = ("all",),
        *,
        cursor: Cursor | str | None = None,
        send_buffer: int | None = None,
    ) -> tuple[TransportStream, Client]:
        """A stream to be attached, and its client. As in the server, a lost connection detaches the stream."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        if send_buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self._ends.append(theirs)
        transport, connection = await asyncio.get_running_loop().create_connection(_Connection, sock=ours)
        self._transports.append(transport)
        stream = stream_on(transport, user, topics, cursor)
        self._count_writes(stream)
        connection.on_lost = lambda: self._hub.detach(stream)
        return stream, Client(theirs)

    def _count_writes(self, stream: TransportStream) -> None:
        socket_send = stream.send
        assert socket_send is not None, "the stream does not send directly"

        def send(data: bytes) -> int:
            self.writes[stream.user] += data != PING_FRAME.chunk
            return socket_send(data)

        stream.send = stream._socket_send = send

    def descriptor(self, stream: TransportStream) -> int:
        return int(stream._transport.get_extra_info("socket").fileno())

    def drop(self, stream: TransportStream) -> None:
        """Lose the connection, as the server's event loop would."""
        stream._transport.abort()

    async def attached(self, count: int, **how: Any) -> tuple[list[TransportStream], list[Client]]:
        """Attach live streams; return them and their clients. Resets `writes`."""
        pairs = [await self.connect(f"u{number}", **how) for number in range(count)]
        for stream, _ in pairs:
            await self._hub.attach(stream)
        self.writes.clear()
        return [stream for stream, _ in pairs], [client for _, client in pairs]


def announce(hub: object, task: Task) -> None:
    hub.deliver_state("all", task.id, task.frame().encode())  # type: ignore[attr-defined]


def events(wall: Wall) -> list[str]:
    return [event for event in received(wall) if event.startswith("x:")]


def statuses(wall: Wall) -> list[str]:
    """The statuses of a client's only task, in the order received."""
    text = b"".join(wall.written).decode()
    return [part.split('"')[0] for part in text.split('"status":"')[1:]]
