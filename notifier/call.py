"""Calls: functions from a request's head and body to an answer, whichever way the request came.

The protocol (`direct`) runs them for plain requests. The routes of the API run the same functions for every other
request, and document them. Must not know: what calls there are; ASGI, brokers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from notifier.auth import Publisher

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values."""

NO_STORE: Final = (b"cache-control", b"no-store")
"""An answer depends on its caller and the moment."""
JSON: Final[Headers] = (NO_STORE, (b"content-type", b"application/json"))


@dataclass(slots=True)
class RequestHead:
    """What calls ask of a request, apart from its body."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    """By name in lower case; of a repeated header the first value."""
    name: str = ""
    """The last segment of the path, for a call that serves many paths."""

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


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls that the protocol runs."""

    by_path: Mapping[tuple[bytes, bytes], Call]
    """By method and path. A path that ends with a slash stands for those with one more segment, the head's `name`."""
    publisher: Callable[[str | None], Publisher]
    """The publisher by the value of the Authorization header. Raises `NotifierError`."""


def http1_bytes(answer: Answer, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A response as HTTP/1.1 sends it. `more`: further headers, which come first."""
    lines = [b"%b: %b\r\n" % header for header in (*more, *answer.headers)]
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (
        STATUS_LINE[answer.status],
        b"".join(lines),
        len(answer.body),
        answer.body,
    )
