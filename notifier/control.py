"""Calls that concern one open stream, which any process may get: the process that has the stream executes them.

    call -> the stream is here: executed
         -> else announced on its user's topic -> executed by the process with the stream -> answered on the caller's

Must not know: HTTP, tokens, Redis.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from notifier.broker import Broker
from notifier.errors import BrokerUnavailable, Conflict, NotFound, NotifierError
from notifier.event import new_id
from notifier.grants import Change, Changed, ConnectionIds, Grants, StreamsByTopic
from notifier.rules import to_json
from notifier.stream import Stream

log = logging.getLogger("notifier.control")

ANSWER_S: Final = 1.0
"""A process with the stream answers within this time; otherwise the stream counts as unknown."""
ERRORS: Final[Mapping[str, type[NotifierError]]] = {
    error.__name__: error for error in (NotFound, Conflict, BrokerUnavailable)
}
"""Errors of the other process that the caller raises."""


class StreamCalls:
    """Executes the calls for streams of this process, and passes on the others."""

    def __init__(
        self, broker: Broker, streams_by_topic: StreamsByTopic, connections: ConnectionIds, grants: Grants
    ) -> None:
        self._broker = broker
        self._streams_by_topic = streams_by_topic
        self._connections = connections
        self._grants = grants
        self._process = new_id()
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        """Calls without answer, by id."""
        self._running: set[asyncio.Task[None]] = set()
        """Calls of other processes."""

    async def change_topics(self, user: str, change: Change) -> Changed:
        """Change what a stream of the user hears, in whichever process it is. Raises `NotFound`, `Conflict`,
        `BrokerUnavailable`."""
        stream = self._find(user, change.connection)
        if stream is not None:
            return await self._grants.change(stream, change)
        answer = await self._ask(user, asdict(change))
        if answer is None:
            raise NotFound("there is no such connection of this user", field="connection")
        if (error := answer.get("error")) is not None:
            raise ERRORS[error](answer["detail"], field=answer["field"])
        return Changed(answer["topics"], answer["cursor"], answer["stale"])

    def _find(self, user: str, connection: str) -> Stream | None:
        (topic,) = self._broker.topics(user, [f"user:{user}"])
        return self._connections.find(connection, self._streams_by_topic.get(topic, ()))

    async def _ask(self, user: str, change: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The answer of the process with the stream; None if no process has it."""
        topic, reply = self._broker.topics(user, [f"user:{user}", f"control:{self._process}"])
        call = new_id()
        answered: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[call] = answered
        try:
            # Stays subscribed: one topic for each shard. A user's topic is subscribed by processes with its streams.
            await self._broker.subscribe([reply])
            text = to_json({"call": call, "reply": reply, "user": user, "change": change})
            if not await self._broker.control(topic, text):
                return None
            async with asyncio.timeout(ANSWER_S):
                return await answered
        except TimeoutError:
            return None
        finally:
            del self._waiting[call]

    def receive(self, text: bytes) -> None:
        """A call of another process, or the answer to one of this process."""
        try:
            received = json.loads(text)
            if (answer := received.get("answer")) is not None:
                answered = self._waiting.get(received["call"])
                if answered is not None and not answered.done():
                    answered.set_result(answer)
                return
            change = Change(**received["change"])
            stream = self._find(received["user"], change.connection)
            if stream is None:
                return
            executed = asyncio.ensure_future(self._execute(stream, change, received["call"], received["reply"]))
        except (ValueError, TypeError, LookupError, AttributeError) as exc:
            log.error("skipped a call of another process that is not in notifier's form: %s", exc)
            return
        self._running.add(executed)
        executed.add_done_callback(self._running.discard)

    async def _execute(self, stream: Stream, change: Change, call: str, reply: str) -> None:
        try:
            answer: dict[str, Any] = asdict(await self._grants.change(stream, change))
        except (NotFound, Conflict, BrokerUnavailable) as exc:
            answer = {"error": type(exc).__name__, "detail": exc.detail, "field": exc.field}
        try:
            await self._broker.control(reply, to_json({"call": call, "answer": answer}))
        except BrokerUnavailable as exc:
            log.warning("the answer to a call of another process was not sent: %s", exc)
