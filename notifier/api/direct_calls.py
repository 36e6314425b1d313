"""The calls that the protocol runs directly: by method and path, each admitted by who sends it.

Must not know: what the calls do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from fastapi import FastAPI

from notifier.api.http import connection_of, publisher_of, subscriber
from notifier.api.stream import StreamEndpoint
from notifier.auth import Publisher
from notifier.call import Admitted, Call, RequestHead, UserCall
from notifier.protocol import Protocol

STREAM_PATH: Final = b"/v1/stream"


class _Exact(NamedTuple):
    """A call by the whole of its method and address, and both as texts."""

    method: str
    path: str
    call: Call | None
    user_call: UserCall | None


class DirectCalls:
    """All of them: those of publishers, those of users, and the stream. Among the publishers', a path that ends with a
    slash stands for those with one more segment, the head's `last_segment`."""

    def __init__(
        self,
        app: FastAPI,
        calls: Mapping[tuple[bytes, bytes], Call],
        user_calls: Mapping[tuple[bytes, bytes], UserCall],
        stream: StreamEndpoint,
    ) -> None:
        self._app = app
        self._calls = calls
        self._exact = {
            (method, url): _Exact(
                method.decode(), url.decode(), calls.get((method, url)), user_calls.get((method, url))
            )
            for method, url in (*calls, *user_calls)
            if not url.endswith(b"/")
        }
        self._stream = stream

    def admit(self, protocol: Protocol, method: bytes, url: bytes, headers: Mapping[bytes, bytes]) -> Admitted | None:
        """The call of a plain request; None if there is none. Raises `NotifierError` for a caller without permission.

        What is None or raises here goes through the routes, and is answered there.
        """
        exact = self._exact.get((method, url))
        if exact is None:
            return self._admit_by_start(protocol, method, url, headers)
        head = RequestHead(exact.method, exact.path, headers)
        if exact.call is not None:
            return partial(exact.call, self._publisher(head), head)
        assert exact.user_call is not None
        return partial(exact.user_call, subscriber(connection_of(self._app, exact.method, headers)), head)

    def _admit_by_start(
        self, protocol: Protocol, method: bytes, url: bytes, headers: Mapping[bytes, bytes]
    ) -> Admitted | None:
        path, _, query = url.partition(b"?")
        if path == STREAM_PATH and method == b"GET" and b"#" not in query:
            return self._stream.admit(protocol, headers, query)
        start = url.rfind(b"/") + 1
        last = url[start:]
        call = self._calls.get((method, url[:start]))
        if call is None or not last or b"%" in last or b"?" in last or b"#" in last:
            return None
        head = RequestHead(method.decode(), url.decode(), headers, last.decode())
        return partial(call, self._publisher(head), head)

    def _publisher(self, head: RequestHead) -> Publisher:
        return publisher_of(self._app.state.auth, head.header(b"authorization"))
