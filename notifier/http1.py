"""HTTP/1.1 requests within bounds, over uvicorn's protocol.

A head is bounded in size and time, a body too. An offer to upgrade is ignored. A request that cannot be read is refused
with a problem, after the responses to the requests before it; then the connection ends.

Must not know: what the requests ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from notifier import problems, rules
from notifier.call import ORIGINS, Headers, Origins, http1_bytes
from notifier.errors import HeadTooLarge, MalformedRequest, NotifierError, too_large

MAX_HEAD_BYTES: Final = 32 * 1024
"""The request line and the headers."""
HEAD_S: Final = 10.0
"""Time limit of a request's head, from its first byte; of the first request of a connection, from the connect."""
BODY_S: Final = 60.0
"""Time limit of a request's body, from the end of the head."""
MAX_PIPELINED: Final = 16
"""Requests of a connection that wait for the responses before them. More than a client has use for; and a packet holds
ten thousand small ones."""
LINGER_S: Final = 2.0
"""How long a refused client may go on sending and read the answer."""

_BETWEEN, _HEAD, _BODY = range(3)
"""The part of a request that the next byte belongs to."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds. A request that arrives in one piece costs a few comparisons, and no timer."""

    # Slots: attributes that are added to the instance's dictionary would cost each open stream a copy of its keys.
    __slots__ = (
        "_arrived",
        "_body_bytes",
        "_could_be_head",
        "_ended",
        "_idle_since",
        "_part",
        "_reading",
        "_refusal",
        "_timer",
    )  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reading = True
        """False after a refusal, or once a stream has the connection: what arrives then is ignored."""
        self._part = _BETWEEN
        self._arrived = 0
        """Bytes since the last progress: the end of a head or a message, or a piece of a body. What is not progress may
        lie in the parser's memory: an unfinished header or trailer."""
        self._could_be_head = 0
        """The most bytes that the head which ends next can have so far."""
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: bytes | None = None
        """The answer to a request that was refused, while requests before it wait for theirs."""
        self._ended = False
        self._idle_since = 0.0
        """When the last response was complete, by the loop's clock."""

    @property
    def is_answering(self) -> bool:
        """True while a response is due or under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._limit_time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._reading:
            return
        self._arrived += len(data)
        self._could_be_head += len(data)
        try:
            self._parse(data)
            if self._arrived > MAX_HEAD_BYTES:
                raise HeadTooLarge(_TOO_LARGE)
        except NotifierError as exc:
            self._refuse(exc)
        else:
            if not self._arrived:
                self._could_be_head = len(data)  # what followed the last progress
            self._limit_time()

    def _parse(self, data: bytes) -> None:
        """Parse what arrived. Raises `NotifierError` for a request that is refused.

        The parser stops after a head with an offer to upgrade, as if the rest belonged to another protocol. The service
        ignores such offers (RFC 9110, 7.8): a new parser gets the head without the offer, and then the rest.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = memoryview(rest)[offer.args[0] :]
            except httptools.HttpParserError as exc:
                raise _cause(exc) from None
            head = self._head_without_offer()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            try:
                self.parser.feed_data(head)
            except httptools.HttpParserError as exc:
                raise _cause(exc) from None

    def _head_without_offer(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":  # for the parser an upgrade by itself
            raise MalformedRequest("CONNECT is a method of proxies")
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    # Parser callbacks. What they raise comes out of `_parse`.

    def on_message_begin(self) -> None:
        self._part = _HEAD
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the head is parsed again
        if self.transport.is_closing():
            raise MalformedRequest("the connection is closing")
        if self._could_be_head > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            raise HeadTooLarge(_TOO_LARGE)
        fields = dict(reversed(self.headers))  # of a repeated header the first
        self._check_head(fields)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise MalformedRequest(f"more than {MAX_PIPELINED} requests wait for their responses on this connection")
        self._arrived = 0
        self._stop_timer()
        self.begin_request(fields)
        self._part = _BODY
        self.headers = []  # trailers do not become headers (RFC 9110, 6.5.1)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _check_head(self, fields: Mapping[bytes, bytes]) -> None:
        """Refuse what the parser accepts and a proxy may read in another way (RFC 9112, 3.2 and 6.1), and a body that
        is announced as too large."""
        if not self.url.startswith(b"/") and httptools.parse_url(self.url).path is None:
            raise MalformedRequest("the request's address has no path")
        version = self.parser.get_http_version()
        is_repeated = len(fields) != len(self.headers)
        hosts = [name for name, _ in self.headers].count(b"host") if is_repeated else int(b"host" in fields)
        if hosts != 1 and (hosts or version == "1.1"):
            raise MalformedRequest(f"a request has a single Host header, not {hosts}")
        if version not in ("1.1", "1.0"):
            raise MalformedRequest(f"HTTP/{version} is not supported; HTTP/1.1 is")
        if (length := fields.get(b"content-length")) is not None:
            announced = int(length)  # the parser has checked it
            if announced > rules.MAX_BATCH_BYTES:
                raise too_large(rules.MAX_BATCH_BYTES, announced)
        elif (encoding := fields.get(b"transfer-encoding")) is not None:
            if version == "1.0":
                raise MalformedRequest("Transfer-Encoding needs HTTP/1.1")
            value = encoding.decode("latin-1")
            if value.strip().lower() != "chunked":
                raise MalformedRequest(f"Transfer-Encoding must be chunked, not {rules.shown(value)}")

    def on_body(self, body: bytes) -> None:
        self._arrived = 0
        self._body_bytes += len(body)
        if self._body_bytes > rules.MAX_BATCH_BYTES:
            raise too_large(rules.MAX_BATCH_BYTES)
        self.add_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._part = _BETWEEN
        self._arrived = self._body_bytes = 0
        self._stop_timer()
        self.end_request()

    # For subclasses

    def begin_request(self, fields: Mapping[bytes, bytes]) -> None:
        """Called at the end of a request's head, with its headers by name. Afterwards the request is in `cycle`."""
        self.begin_asgi_request()

    def added_headers(self, fields: Mapping[bytes, bytes]) -> Headers:
        """Those that every answer to a request with these headers has."""
        origins: Origins | None = self.app_state.get(ORIGINS)
        return () if origins is None else origins.added_headers(fields.get(b"origin"))

    def begin_asgi_request(self) -> None:
        """Begin the ASGI call of a request, as uvicorn does."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)  # makes the scope, and empties these
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        HttpToolsProtocol.on_headers_complete(self)

    def add_body(self, body: bytes) -> None:
        """Called with each piece of a request's body."""
        HttpToolsProtocol.on_body(self, body)

    def end_request(self) -> None:
        """Called at the end of a request's body."""
        HttpToolsProtocol.on_message_complete(self)

    def stop_reading(self) -> bool:
        """Ignore everything after the present request, for the rest of the connection. False if the connection ends."""
        if self._ended:
            return False
        # A request body or a pipelined request may have paused it, or a refused one behind the present (`_refuse`).
        self.flow.resume_reading()
        self.transport.resume_reading()
        self._reading = False
        self._unset_keepalive_if_required()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end of a connection
        self.pipeline.clear()
        self._refusal = None
        self._stop_timer()
        return True

    # Time

    def _limit_time(self) -> None:
        """Start the timer if the client is due to send and none runs."""
        if self._timer is not None:
            return
        if self._part != _BETWEEN or self.cycle is None or (self._arrived and not self.is_answering):
            self._timer = self.loop.call_later(BODY_S if self._part == _BODY else HEAD_S, self._overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self) -> None:
        self._timer = None
        if (self.is_answering and self._part != _BODY) or self.flow.read_paused:  # not the client is late
            self._limit_time()
        else:
            self.transport.close()

    # Refusals

    def _refuse(self, exc: NotifierError) -> None:
        """Read no more. Answer after the responses to earlier requests, and end the connection."""
        self._reading = False
        self._stop_timer()
        headers = list(self.scope["headers"]) if self._part == _BODY else self.headers or []
        more = (*self.server_state.default_headers, *self.added_headers(dict(reversed(headers))))
        answer = http1_bytes(problems.answer(exc), (*more, (b"connection", b"close")))
        cycle = self.cycle
        waits = self.is_answering
        if self._part == _BODY:  # of the request of `cycle`
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            else:
                if cycle.response_started:
                    answer = b""
                cycle.disconnected = True
                cycle.waiting_for_100_continue = False
                cycle.message_event.set()
                waits = False
        if waits:
            self._refusal = answer
            self.transport.pause_reading()
        else:
            self._end(answer)

    def on_response_complete(self) -> None:
        """As uvicorn's, but the timer of an idle connection stays over its requests, and looks when it is due."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refusal is not None:
            self._end(self._refusal)
        else:
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._end_idle_after(self.timeout_keep_alive)

    def _end_idle_after(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.is_answering or self._part != _BETWEEN:
            self._end_idle_after(self.timeout_keep_alive)
        elif left_s > 0:
            self._end_idle_after(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _end(self, answer: bytes) -> None:
        """Write and close. A socket that is closed while bytes arrive is reset, and its client may lose the answer;
        so the client gets time to read it."""
        self._ended = True
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.transport.resume_reading()
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._timer = self.loop.call_later(LINGER_S, self.transport.abort)
        else:
            self.transport.close()


_TOO_LARGE: Final = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"


def _cause(exc: httptools.HttpParserError) -> NotifierError:
    """What a callback raised, or why the parser refused."""
    cause = exc.__context__
    if isinstance(cause, NotifierError):
        return cause
    if isinstance(exc, httptools.HttpParserCallbackError):
        if not isinstance(cause, httptools.HttpParserError | UnicodeDecodeError):
            raise exc  # an error in a callback: asyncio logs it and ends the connection
        return MalformedRequest("the request's address is not a URL")
    return MalformedRequest(f"not a valid HTTP/1.1 request: {exc}")
