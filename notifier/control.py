"""Calls that concern one open stream, which any process may get: the process that has the stream executes them.

    call -> the stream is here: executed
         -> else announced on its user's topic -> executed by the process with the stream -> answered on the caller's

Must not know: HTTP, tokens, Redis.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from notifier.broker import Broker
from notifier.connection_records import ASKED, ConnectionRecords
from notifier.connections import ConnectionIds, StreamsByTopic
from notifier.errors import BrokerUnavailable, Conflict, NotFound, NotifierError
from notifier.event import new_id
from notifier.grants import Change, Changed, Grants
from notifier.json_text import to_json
from notifier.stream import Stream

log = logging.getLogger("notifier.control")

ANSWER_S: Final = 1.0
"""The processes with streams of the user answer within this time, also those without this stream."""
ERRORS: Final[Mapping[str, type[NotifierError]]] = {
    error.__name__: error for error in (NotFound, Conflict, BrokerUnavailable)
}
"""Errors of the other process that the caller raises."""


class StreamCalls:
    """Executes the calls for streams of this process, and passes on the others."""

    def __init__(
        self,
        broker: Broker,
        streams_by_topic: StreamsByTopic,
        connections: ConnectionIds,
        grants: Grants,
        records: ConnectionRecords,
    ) -> None:
        self._broker = broker
        self._streams_by_topic = streams_by_topic
        self._connections = connections
        self._grants = grants
        self._records = records
        self._process = new_id()
        self._waiting: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}
        """Answers to the calls that wait for some, by id."""
        self._running: set[asyncio.Task[None]] = set()
        """Calls of other processes."""
        self._reads: dict[str, Callable[[], dict[str, Any]]] = {}
        """What this process tells any process that asks, by the name of the question."""

    @property
    def process(self) -> str:
        """This process's id, random at each start."""
        return self._process

    async def change_topics(self, user: str, change: Change) -> Changed:
        """Change what a stream of the user hears, in whichever process it is. Raises `NotFound`, `Conflict`, and
        `BrokerUnavailable` also where a process with streams of the user does not answer in time."""
        stream = self._find(user, change.connection)
        if stream is not None:
            return await self._grants.change(stream, change)
        # An earlier version does not know the fields that are empty in its own calls.
        fields = {name: value for name, value in asdict(change).items() if value or name not in ("seen", "states")}
        asked = {"change": fields}
        answers, processes = await self._ask(user, f"user:{user}", asked, lambda answer: not answer.get("absent"))
        for answer in answers:
            if (error := answer.get("error")) is not None:
                raise ERRORS[error](answer["detail"], field=answer["field"])
            if not answer.get("absent"):
                return Changed(answer["topics"], answer["cursor"], answer["stale"])
        # A process without streams of the user any more does not answer.
        (topic,) = self._broker.topics(user, [f"user:{user}"])
        if len(answers) < processes and await self._broker.is_watched(topic):
            raise BrokerUnavailable("the process with this connection did not answer in time")
        raise NotFound("there is no such connection of this user", field="connection")

    async def count_streams(self, user: str) -> int:
        """The open streams of a user in all processes; those of a process that does not answer in time are missing."""
        (topic,) = self._broker.topics(user, [f"user:{user}"])
        answers, processes = await self._ask(user, f"user:{user}", {"count": True}, lambda _: False)
        return sum(int(answer["streams"]) for answer in answers) if processes else self._count(topic)

    async def open_records(self, user: str) -> Sequence[str]:
        """The records of the user's open streams as they are now, and those that the broker does not have yet, of all
        processes that answer in time."""
        answers, _ = await self._ask(user, ASKED, {"count": True, "records": True}, lambda _: False)
        return [*self._texts(user), *(str(text) for answer in answers for text in answer.get("records", ()))]

    async def forget_records(self, user: str) -> None:
        """Drop the user's records that the broker does not have yet, in the other processes, as far as they answer in
        time. Raises `BrokerUnavailable`."""
        await self._ask(user, ASKED, {"forget": True}, lambda _: False)

    def _texts(self, user: str) -> Sequence[str]:
        (topic,) = self._broker.topics(user, [f"user:{user}"])
        return self._records.texts(user, self._streams_by_topic.get(topic, ()))

    async def tell(self, name: str, read: Callable[[], dict[str, Any]]) -> None:
        """Answer the question `name` of any process with what `read` returns, from now on. Raises
        `BrokerUnavailable`."""
        self._reads[name] = read
        await self._broker.subscribe(self._broker.topics("", [f"control:{name}"]))

    async def ask_all(self, name: str) -> tuple[Sequence[Mapping[str, Any]], int]:
        """The answers of all processes that tell it, of those that answer in time, and the number of these processes: 0
        with a broker of one process. Raises `BrokerUnavailable`."""
        return await self._ask("", f"control:{name}", {"name": name}, lambda _: False)

    def _count(self, topic: str) -> int:
        return len(self._streams_by_topic.get(topic, ()))

    def _find(self, user: str, connection: str) -> Stream | None:
        (topic,) = self._broker.topics(user, [f"user:{user}"])
        return self._connections.find(connection, self._streams_by_topic.get(topic, ()))

    async def _ask(
        self, user: str, channel: str, asked: Mapping[str, Any], is_last: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[Sequence[Mapping[str, Any]], int]:
        """The answers of the processes that subscribe to this channel of a user, up to one that is the last, and the
        number of these processes."""
        topic, reply = self._broker.topics(user, [channel, f"control:{self._process}"])
        call, answers = new_id(), list[Mapping[str, Any]]()
        queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._waiting[call] = queue
        try:
            # Stays subscribed: one topic for each shard. A user's topic is subscribed by processes with its streams.
            await self._broker.subscribe([reply])
            text = to_json({"call": call, "reply": reply, "user": user, "answer_all": True, **asked})
            processes = await self._broker.control(topic, text)
            async with asyncio.timeout(ANSWER_S):
                while len(answers) < processes and not (answers and is_last(answers[-1])):
                    answers.append(await queue.get())
        except TimeoutError:
            pass
        finally:
            del self._waiting[call]
        return answers, processes

    def receive(self, text: bytes) -> None:
        """A call of another process, or the answer to one of this process."""
        try:
            received = json.loads(text)
            if (answer := received.get("answer")) is not None:
                if (answers := self._waiting.get(received["call"])) is not None:
                    answers.put_nowait(answer)
                return
            answering = self._answering(received)
            if answering is None:
                return
            executed = asyncio.ensure_future(self._answer(answering, received["call"], received["reply"]))
        except (ValueError, TypeError, LookupError, AttributeError) as exc:
            log.error("skipped a call of another process that is not in notifier's form: %s", exc)
            return
        self._running.add(executed)
        executed.add_done_callback(self._running.discard)

    def _answering(self, received: Mapping[str, Any]) -> Coroutine[Any, Any, dict[str, Any]] | None:
        """What makes the answer to a call; None for a call of an earlier version that this process has none for."""
        user = received["user"]
        if "name" in received:
            read = self._reads.get(received["name"])
            return None if read is None else _at_once(read())
        if "forget" in received:
            self._records.forget(user)
            return _at_once({})
        if "count" in received:
            (topic,) = self._broker.topics(user, [f"user:{user}"])
            records = {"records": [*self._texts(user)]} if received.get("records") else {}
            return _at_once({"streams": self._count(topic), **records})
        change = Change(**received["change"])
        stream = self._find(user, change.connection)
        if stream is not None:
            return self._execute(stream, change)
        return _at_once({"absent": True}) if received.get("answer_all") else None

    async def _execute(self, stream: Stream, change: Change) -> dict[str, Any]:
        try:
            return asdict(await self._grants.change(stream, change))
        except (NotFound, Conflict, BrokerUnavailable) as exc:
            return {"error": type(exc).__name__, "detail": exc.detail, "field": exc.field}

    async def _answer(self, answering: Coroutine[Any, Any, dict[str, Any]], call: str, reply: str) -> None:
        answer = await answering
        try:
            await self._broker.control(reply, to_json({"call": call, "answer": answer}))
        except BrokerUnavailable as exc:
            log.warning("the answer to a call of another process was not sent: %s", exc)


async def _at_once(answer: dict[str, Any]) -> dict[str, Any]:
    return answer
