"""Plain requests of frequent calls, answered without ASGI: their scope, task and messages cost more than the call does.

A request is plain if nothing in its head asks for more than the call: a known publisher or user, HTTP/1.1 on a
connection that stays, a body of known and moderate size, no repeated header, no page of an origin that is not allowed,
nothing before it that waits. Every other request goes through the application's routes, which run the same calls.

Must not know: what the calls do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol

from notifier import problems, rules
from notifier.call import ORIGINS, Admitted, Answer, http1_bytes, is_same_origin
from notifier.errors import NotifierError
from notifier.failures import unexpected
from notifier.http1 import MAX_PIPELINED, BoundedProtocol

CALLS: Final = "calls"
"""Key in the application's lifespan state."""
MAX_DIRECT_BYTES: Final = rules.MAX_BODY_BYTES
"""Larger bodies go through the routes, which read only as fast as they use. Here every connection may have a whole
body in memory."""
NOT_PLAIN: Final = frozenset((b"expect", b"transfer-encoding"))
"""Headers that ask for an interim response, or for a body of unknown size."""

log = logging.getLogger("notifier.direct")


class _NoEvent:
    """Nothing waits for a direct request."""

    def set(self) -> None: ...


class Calls(Protocol):
    """What the application offers in its lifespan state."""

    def admit(self, protocol: Any, method: bytes, url: bytes, headers: Mapping[bytes, bytes]) -> Admitted | None: ...


class DirectRequest:
    """A request on its way to its call. It has those attributes of uvicorn's `RequestResponseCycle` that are used."""

    __slots__ = (
        "body",
        "call",
        "disconnected",
        "fields",
        "keep_alive",
        "response_complete",
        "waiting_for_100_continue",
    )

    message_event: Final = _NoEvent()
    response_started: Final = False

    def __init__(self, call: Admitted, fields: Mapping[bytes, bytes]) -> None:
        self.call = call
        self.fields = fields
        self.body = b""
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.waiting_for_100_continue = False


class DirectProtocol(BoundedProtocol):
    """Answers plain requests by the application's calls."""

    __slots__ = ("_admitted_now",)

    def data_received(self, data: bytes) -> None:
        self._admitted_now = 0
        """Requests of these bytes that were admitted: with too many, the loop would serve nothing else."""
        super().data_received(data)

    def begin_request(self, fields: Mapping[bytes, bytes]) -> None:
        call = self._admitted(fields)
        if call is None:
            super().begin_request(fields)
        else:
            self.cycle = DirectRequest(call, fields)  # type: ignore[assignment]  # it has the attributes that are used

    def _admitted(self, fields: Mapping[bytes, bytes]) -> Admitted | None:
        """The request's call, if the request is plain and has one."""
        calls: Calls | None = self.app_state.get(CALLS)
        if (
            calls is None
            or len(fields) != len(self.headers)
            or not NOT_PLAIN.isdisjoint(fields)
            or not (is_same_origin(fields) or fields[b"origin"] in self.app_state[ORIGINS].allowed)
            or self.parser.get_http_version() != "1.1"
            or not self.parser.should_keep_alive()
            or int(fields.get(b"content-length", b"0")) > MAX_DIRECT_BYTES
            or self.is_answering
            or self.flow.write_paused
            or self._admitted_now >= MAX_PIPELINED
        ):
            return None
        self._admitted_now += 1
        try:
            return calls.admit(self, self.parser.get_method(), self.url, fields)
        except NotifierError as exc:
            if self.parser.get_method() != b"GET" or b"content-length" in fields:
                return None  # the routes refuse it too: they do not wait for the body, and count calls of publishers
            answer = problems.answer(exc)
            return lambda _: answer
        except Exception:
            log.exception("a request to %r was not admitted; the routes answer it", self.url.partition(b"?")[0])
            return None

    def add_body(self, body: bytes) -> None:
        request: object = self.cycle
        if isinstance(request, DirectRequest):
            request.body += body
        else:
            super().add_body(body)

    def end_request(self) -> None:
        request: object = self.cycle
        if isinstance(request, DirectRequest):
            self._run(request)
        else:
            super().end_request()

    def _run(self, request: DirectRequest) -> None:
        try:
            answer = request.call(request.body)
        except Exception as exc:
            answer = _failure(exc, request)
        if isinstance(answer, Answer):
            self._respond(request, answer)
            return
        task = self.loop.create_task(self._respond_later(request, answer))
        self.tasks.add(task)  # a shutdown waits for it
        task.add_done_callback(self.tasks.discard)

    async def _respond_later(self, request: DirectRequest, pending: Awaitable[Answer | None]) -> None:
        try:
            answer = await pending
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        except Exception as exc:
            answer = _failure(exc, request)
        if answer is not None:
            self._respond(request, answer)

    def _respond(self, request: DirectRequest, answer: Answer) -> None:
        request.response_complete = True
        if request.disconnected or self.transport.is_closing():
            return
        more = [*self.server_state.default_headers, *self.added_headers(request.fields)]
        if not request.keep_alive:
            more.append((b"connection", b"close"))
        self.transport.write(http1_bytes(answer, more))
        if not request.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _failure(exc: Exception, request: DirectRequest) -> Answer:
    return problems.answer(exc) if isinstance(exc, NotifierError) else unexpected(request.fields.items(), exc)
