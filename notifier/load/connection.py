"""One HTTP/1.1 connection to a service: a call at a time, or a stream. Light enough for thousands in one process.

Must not know: what is published, what an event means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httptools
import httpx

CONNECT_S: Final = 10.0
ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def wait_s(self, default: float) -> float:
        """How long the service asks to wait, at most ten seconds."""
        try:
            return min(10.0, max(0.0, float(self.headers["retry-after"])))
        except (KeyError, ValueError):
            return default


class Address:
    """Where the service is, and the bytes of requests to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls: ssl.SSLContext | None = httpx.create_ssl_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._netloc, self._path = parts.netloc, parts.path.rstrip("/")

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        fields = {"Host": self._netloc, "Accept-Encoding": "identity", **headers}
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {self._path}{path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    async def open(self, connection: Connection) -> None:
        """Raises `OSError`, and `TimeoutError` after ten seconds."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)


class Connection(asyncio.Protocol):
    """One connection. Its callbacks are those of `httptools.HttpResponseParser`."""

    def __init__(self, on_piece: Callable[[bytes], None] | None = None) -> None:
        """`on_piece` gets the pieces of a body with the status 200 as they come; without it, the answer has them."""
        self._on_piece = on_piece
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self.closed = asyncio.get_running_loop().create_future()
        """Done when the connection is lost or ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(ConnectionError(f"no HTTP: {exc}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError(str(exc or "the connection ended")))
        if not self.closed.done():
            self.closed.set_result(None)

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self.closed.done()

    async def send(self, request: bytes) -> Answer:
        """The answer; of a stream, its head. Raises `OSError`, and `TimeoutError` after ten seconds."""
        if self._transport is None or not self.connected:
            raise ConnectionError("the connection ended")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_S):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def ended(self) -> None:
        """Close, and wait until nothing more is read."""
        self.close()
        if self._transport is not None:
            with contextlib.suppress(OSError):
                await self.closed

    def on_message_begin(self) -> None:
        self._headers, self._pieces = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._streams():
            self._finish(Answer(self._parser.get_status_code(), self._headers))

    def on_body(self, piece: bytes) -> None:
        if self._on_piece is not None and self._streams():
            self._on_piece(piece)
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if self._streams():
            self.close()  # the service has ended the stream
        else:
            self._finish(Answer(self._parser.get_status_code(), self._headers, b"".join(self._pieces)))
            if not self._parser.should_keep_alive():
                self.close()

    def _streams(self) -> bool:
        return self._on_piece is not None and self._parser.get_status_code() == 200

    def _finish(self, answer: Answer) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _fail(self, exc: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc)
