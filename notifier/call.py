"""Calls: functions from a request's head and body to an answer, whichever way the request came.

The protocol (`direct`) runs them for plain requests. The routes of the API run the same functions for every other
request, and document them. Must not know: what calls there are; ASGI, brokers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from notifier.auth import Publisher, Subscriber

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values."""

NO_STORE: Final = (b"cache-control", b"no-store")
"""An answer depends on its caller and the moment."""
JSON: Final[Headers] = (NO_STORE, (b"content-type", b"application/json"))


class RequestHead(msgspec.Struct, gc=False):
    """What calls ask of a request, apart from its body."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    """By name in lower case; of a repeated header the first value."""
    last_segment: str = ""
    """Of the path, for a call that serves many paths."""

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Headers
    """Without Content-Length."""
    body: bytes


Call = Callable[[Publisher, RequestHead, bytes], Answer | Awaitable[Answer]]
"""A publisher's call with the request's body. It answers at once where nothing has to be waited for. Raises
`NotifierError`."""

UserCall = Callable[[Subscriber, RequestHead, bytes], Answer | Awaitable[Answer]]
"""The same of a stream's user."""

Admitted = Callable[[bytes], Answer | Awaitable[Answer | None]]
"""A call whose caller is known, as a function of the body. No answer: the call took the connection over."""


ORIGINS: Final = "origins"
"""Key in the application's lifespan state of its `Origins`."""


class Origins(Protocol):
    """Pages of other origins, for answers that are sent without ASGI."""

    @property
    def allowed(self) -> frozenset[bytes]: ...

    def added_headers(self, origin: bytes | None) -> Headers:
        """Those that every answer to a request with this Origin has. None: it has none."""


def media_type(content_type: str) -> str:
    """The type that a Content-Type names, in lower case, without its parameters (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def is_same_origin(headers: Mapping[bytes, bytes]) -> bool:
    """True if a request has no Origin, or that of the service as the client sees it: a browser asks for no CORS headers
    then. The browser's word counts: behind a proxy the service knows neither its own host nor whether the client used
    TLS. For a browser without Sec-Fetch-Site the host decides."""
    origin = headers.get(b"origin")
    if not origin:
        return True
    site = headers.get(b"sec-fetch-site")
    return origin.partition(b"://")[2] == headers.get(b"host") if site is None else site == b"same-origin"


def stream_head(headers: Headers, more: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of a response without an end."""
    lines = [b"%b: %b\r\n" % header for header in (*more, *headers)]
    return b"%b%btransfer-encoding: chunked\r\n\r\n" % (STATUS_LINE[200], b"".join(lines))


def http1_bytes(answer: Answer, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A response as HTTP/1.1 sends it. `more`: further headers, which come first."""
    lines = [b"%b: %b\r\n" % header for header in (*more, *answer.headers)]
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (
        STATUS_LINE[answer.status],
        b"".join(lines),
        len(answer.body),
        answer.body,
    )
