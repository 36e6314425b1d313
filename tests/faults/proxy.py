"""A TCP proxy that can stop forwarding without closing the connection, as a failed network does."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field


@dataclass(eq=False)
class Pipe:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    first_bytes: bytes = b""
    swallowed: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """`async with Proxy(port) as proxy:` listens on `proxy.port` and forwards to `port`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.pipes: list[Pipe] = []
        self.swallow_from = b""
        """A connection is swallowed once its client sends these bytes. Empty: never."""
        self.replaced: dict[bytes, bytes] = {}
        """What clients receive instead of bytes that the server sends, of the same length."""
        self._server: asyncio.Server | None = None
        self._accepted: list[asyncio.StreamWriter] = []
        self._accepting: set[asyncio.Task[None]] = set()

    def swallow(self, word: bytes) -> int:
        """Stop forwarding on the connections whose first bytes contain this word. Returns how many there are."""
        pipes = [pipe for pipe in self.pipes if word in pipe.first_bytes and not pipe.swallowed]
        for pipe in pipes:
            pipe.swallowed = True
        return len(pipes)

    def count(self, word: bytes) -> int:
        """How many connections began with this word so far."""
        return sum(word in pipe.first_bytes for pipe in self.pipes)

    def cut(self, word: bytes, without: bytes = b"") -> int:
        """Drops the connections that began with this word (and not also with the other); answers how many there are."""
        pipes = [
            pipe for pipe in self.pipes if word in pipe.first_bytes and not (without and without in pipe.first_bytes)
        ]
        for pipe in pipes:
            pipe.client.transport.abort()
            pipe.server.transport.abort()
        return len(pipes)

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for _turn in range(5):  # loop iterations from the listening socket to `_accept`
            await asyncio.sleep(0)
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for writer in self._accepted:
            writer.transport.abort()
        for pipe in self.pipes:
            for task in pipe.tasks:
                task.cancel()
            pipe.client.transport.abort()
            pipe.server.transport.abort()
        await asyncio.gather(*(task for pipe in self.pipes for task in pipe.tasks), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pipe = Pipe(writer, up_writer)
        self.pipes.append(pipe)
        pipe.tasks = [
            asyncio.create_task(self._pump(pipe, reader, up_writer, from_client=True)),
            asyncio.create_task(self._pump(pipe, up_reader, writer)),
        ]

    async def _pump(
        self, pipe: Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if from_client and len(pipe.first_bytes) < 200:
                    pipe.first_bytes += data
                if from_client and self.swallow_from and self.swallow_from in data:
                    pipe.swallowed = True
                if pipe.swallowed:
                    await asyncio.sleep(3600)
                for sent, received in () if from_client else self.replaced.items():
                    data = data.replace(sent, received)
                writer.write(data)
                await writer.drain()
        if not pipe.swallowed:
            writer.transport.abort()
