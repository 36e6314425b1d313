"""A service of its own in this process that is given bytes; the protocol runs its calls directly, or does not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from notifier.app import build
from notifier.direct import CALLS
from notifier.limits import RateLimit
from notifier.protocol import Protocol
from notifier.settings import Settings
from tests.api.request_corpus import API_KEYS, CORS_ORIGINS, SECRET
from tests.raw_http import Exchange, request

DATE = b"Mon, 30 Nov 2026 18:00:00 GMT"
"""The clock of both sides' servers: every answer has it."""
CALLS_PER_S = 10
"""By the clock of publish rates, which goes on with each call: the same calls have the same rest, at any speed."""


class CountingProtocol(Protocol):
    """Counts the requests that go through ASGI."""

    __slots__ = ()
    through_asgi = 0

    def begin_asgi_request(self) -> None:
        CountingProtocol.through_asgi += 1
        super().begin_asgi_request()


Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter, CountingProtocol]
"""The client's end of a connection, and the service's."""


class Side:
    """A service of its own, in this process, that is given bytes and answers on a socket."""

    def __init__(self, config: Config, state: dict[str, Any]) -> None:
        self._config = config
        self._state = state
        self._server = ServerState()
        self._server.default_headers = [(b"date", DATE)]

    async def publish_counts(self) -> list[str]:
        """The samples of calls and items of batches, by kind and status."""
        (answer,) = await self.ask([request("GET", "/metrics")])
        return [line for line in answer.body.decode().splitlines() if line.startswith("notifier_publish")]

    async def open(self, data: bytes) -> bytes:
        """What a connection receives up to the end of the first event, or of the response."""
        received = b""
        reader, writer, _ = await self.connect([data])
        async with asyncio.timeout(10):
            while not received.endswith((b"}\n\n", b"}\n\n\r\n", b"}")):
                received += await reader.readexactly(1)
        writer.close()
        return received

    async def ask(self, pieces: Sequence[bytes], *, answers: int = 1) -> Exchange:
        """The answers on a connection that receives these pieces, each by itself."""
        reader, writer, _ = await self.connect(pieces)
        exchange = Exchange()
        async with asyncio.timeout(10):
            while len(exchange) < answers and not exchange.ended:
                data = await reader.read(1 << 16)
                exchange.ended = not data
                exchange.feed(data)
        writer.close()
        return exchange

    async def connect(self, pieces: Sequence[bytes]) -> Connected:
        """A connection that has received these pieces: the client's end, and the service's."""
        ours, theirs = socket.socketpair()
        _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: CountingProtocol(self._config, self._server, self._state), theirs
        )
        reader, writer = await asyncio.open_connection(sock=ours)
        for piece in pieces:
            protocol.data_received(piece)
        return reader, writer, protocol


@asynccontextmanager
async def side(
    *, direct: bool, redis_url: str = "", publish_rate: float = 0, cors_origins: tuple[str, ...] = CORS_ORIGINS
) -> AsyncIterator[Side]:
    """A service that answers plain requests directly, or does not. It has TLS at `https://service`."""
    settings = Settings(
        jwt_secret=SECRET,
        api_keys=API_KEYS,
        cors_origins=cors_origins,
        publish_rate=publish_rate,
        drain_s=0,
        redis_url=redis_url,
        prefix=f"{direct}",
    )
    config = Config(
        lambda: build(settings),
        factory=True,
        http=Protocol,
        ws="none",
        access_log=False,
        server_header=False,
        forwarded_allow_ips="*",
        log_config=None,
    )
    with pytest.MonkeyPatch.context() as patch:
        clock = (number / CALLS_PER_S for number in count())
        patch.setattr("notifier.app.RateLimit", partial(RateLimit, clock=clock.__next__))
        config.load()
    lifespan = LifespanOn(config)
    await lifespan.startup()
    state = lifespan.state if direct else {name: value for name, value in lifespan.state.items() if name != CALLS}
    try:
        yield Side(config, state)
    finally:
        await lifespan.shutdown()
