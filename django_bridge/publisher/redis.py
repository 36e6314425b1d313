"""The transport `redis`: runs the service's own scripts on its Redis.

A script stores and announces an event in one step, as in the service. Must not know: when a call is repeated.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import redis

from django_bridge import tracing
from django_bridge.conf import Settings
from django_bridge.payload import EventBody, Payload, per_language, to_custom_event, to_event
from django_bridge.publisher.redis_reading import RedisReading
from django_bridge.publisher.transport import Attempt, TaskAnswer, Unreachable
from notifier import task as tasks
from notifier.asking import asked, expired, looked_up
from notifier.broker.redis.correction_calls import Correction, corrections, retract_calls
from notifier.broker.redis.output_calls import TASK_FIELDS, Piece, stored_task
from notifier.broker.redis.scripts import Call, publish_calls, receipt, task_call, task_write_result
from notifier.broker.values import History, Idempotency
from notifier.errors import Conflict, no_task
from notifier.event import Event
from notifier.json_text import to_json
from notifier.message import corrected
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.sampling import Sampling
from notifier.task_record import from_record

log = logging.getLogger("django_bridge")

T = TypeVar("T")

MAX_RACES: Final = 20
"""How often one attempt reads a task again because another process changed it in between."""


class RedisTransport(RedisReading):
    """Runs `publish.lua` and `task.lua` through pools of redis-py connections."""

    is_remote = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._history = History(
            settings.history_size,
            settings.event_history_size,
            settings.history_ttl_s,
            settings.topic_history_size,
            settings.topic_history_ttl_s,
        )
        self._output_bytes = settings.task_output_bytes
        self._sampling = Sampling()

    def message(self, payload: Payload) -> Iterator[Attempt[object]]:
        for n, translated in enumerate(per_language(payload)):
            key = f"{payload['id']}.{n}" if n else payload["id"]
            yield from self._publications(to_event(translated), _idempotency(key, translated))

    def retract(self, message_id: str, to: Sequence[str]) -> Iterator[Attempt[object]]:
        for call in retract_calls(self._keys, message_id, to):
            yield partial(self._done, call)

    def correct(self, message_id: str, to: Sequence[str], changes: Mapping[str, Any]) -> Iterator[Attempt[object]]:
        for correction in corrections(self._keys, message_id, to):
            yield partial(self._correct, correction, partial(corrected, changes=changes))

    def _correct(self, correction: Correction, change: Callable[[str], str], within_s: float) -> object:
        deadline = time.monotonic() + within_s
        with self._deadline.within(within_s):
            for _ in range(MAX_RACES):
                _, write = correction.write(self._run(correction.read), change)
                if write is None or self._run(write):
                    return True
                if time.monotonic() > deadline:
                    break
        raise Unreachable(f"too many concurrent corrections of the message {correction.message_id}")

    def event(self, body: EventBody, key: str) -> Iterator[Attempt[object]]:
        return self._publications(to_custom_event(body), _idempotency(key, body))

    def _publications(self, event: Event, idempotency: Idempotency) -> Iterator[Attempt[object]]:
        calls = publish_calls(
            event,
            self._keys,
            history=self._history,
            idempotency=idempotency,
            accepted_us=tracing.accepted(self._sampling.accepted_us()),
        )
        for call in calls:
            yield partial(self._publish, call)

    def create_task(self, task: tasks.Task, key: str) -> Attempt[TaskAnswer]:
        return partial(self._store, lambda kept: _created(task, kept), task.id, _idempotency(key, task.record()))

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> Attempt[TaskAnswer]:
        return partial(self._store, lambda kept: _changed(task_id, change, kept), task_id, _idempotency(key, change))

    def ask(self, task_id: str, question: Question, key: str) -> Attempt[object]:
        def change(kept: tasks.Task | None) -> tasks.Task:
            return asked(_present(task_id, kept), question, now_ms=_now_ms())

        # Its times differ in a repeated call.
        return partial(self._store, change, task_id, _idempotency(key, question.id))

    def answer(self, task_id: str, question_id: str) -> Attempt[Answer | None]:
        home = self._keys.shard_of_name(task_id)
        names = [self._keys.task(home, task_id)]

        def attempt(within_s: float) -> Answer | None:
            deadline = time.monotonic() + within_s
            with self._deadline.within(within_s):
                row = self._repaired(home, lambda client: client.hmget(names[0], TASK_FIELDS), names)
                task = _present(task_id, stored_task(row))
                present, answer = looked_up(task, question_id, now_ms=_now_ms())
                if present is not task:
                    change = _idempotency(f"{task_id}.{question_id}.expired", question_id)
                    stored = self._stored(expire, task_id, change, deadline)
                    _, answer = looked_up(stored, question_id, now_ms=_now_ms())
            return answer

        def expire(kept: tasks.Task | None) -> tasks.Task:
            return expired(_present(task_id, kept), now_ms=_now_ms())

        return attempt

    def append_output(self, task_id: str, text: str, key: str) -> Attempt[Appended]:
        return partial(self._append, task_id, text, _idempotency(key, text))

    def _append(self, task_id: str, text: str, idempotency: Idempotency, within_s: float) -> Appended:
        home = self._keys.shard_of_name(task_id)
        names = [self._keys.task(home, task_id)]
        with self._deadline.within(within_s):
            task = stored_task(self._repaired(home, lambda client: client.hmget(names[0], TASK_FIELDS), names))
            if task is None:
                raise no_task(task_id)
            piece = Piece(task, text, self._output_bytes)
            appended = piece.appended(self._run(piece.append(self._keys, idempotency)))
            for call in piece.copies(self._keys, appended):
                self._run(call)
        return appended

    def _done(self, call: Call, within_s: float) -> object:
        with self._deadline.within(within_s):
            self._run(call)
        return True

    def _publish(self, call: Call, within_s: float) -> object:
        with self._deadline.within(within_s):
            return receipt(self._run(call))

    def _store(
        self,
        change: Callable[[tasks.Task | None], tasks.Task],
        task_id: str,
        idempotency: Idempotency,
        within_s: float,
    ) -> TaskAnswer:
        """Apply `change` to the stored state and write it by compare-and-set; again where another publisher won."""
        with self._deadline.within(within_s):
            return TaskAnswer.of(self._stored(change, task_id, idempotency, time.monotonic() + within_s))

    def _stored(
        self,
        change: Callable[[tasks.Task | None], tasks.Task],
        task_id: str,
        idempotency: Idempotency,
        deadline: float,
    ) -> tasks.Task:
        home = self._keys.shard_of_name(task_id)
        for _ in range(MAX_RACES):
            kept = self._kept(home, task_id, idempotency)
            if isinstance(kept, _Repeated):
                # The earlier attempt may have failed before its copies were written.
                if kept.stored is not None:
                    self._copy(kept.stored, home)
                return kept.task
            task = change(kept)
            call = task_call(
                task, self._keys, shard=home, expected_version=kept.version if kept else 0, idempotency=idempotency
            )
            if task_write_result(self._run(call)).stored:
                self._copy(task, home)
                return task
            if time.monotonic() > deadline:
                break
        raise Unreachable(f"too many concurrent changes of the task {task_id}")

    def _kept(self, shard: int, task_id: str, idempotency: Idempotency) -> tasks.Task | _Repeated | None:
        """The stored task, or the result of an earlier attempt with this idempotency key."""
        names = [self._keys.task(shard, task_id), self._keys.idempotency(shard, idempotency.key)]

        def read(client: redis.Redis) -> list[Any]:
            with client.pipeline(transaction=False) as reading:
                reading.hmget(names[0], TASK_FIELDS)
                reading.hget(names[1], "answer")
                return reading.execute()

        row, repeated = self._repaired(shard, read, names)
        if repeated is not None and self._confirmations.replicas:
            # Read again with the question, on one connection: another primary may lack what was read.
            row, repeated = self._repaired(shard, partial(self._read_confirmed, shard, names), names)
        stored = stored_task(row)
        if repeated is not None and (known := from_record(repeated)) is not None:
            return _Repeated(known, stored)
        return stored

    def _read_confirmed(self, shard: int, names: Sequence[str], client: redis.Redis) -> list[Any]:
        with client.pipeline(transaction=False) as reading:
            reading.hmget(names[0], TASK_FIELDS)
            reading.hget(names[1], "answer")
            answers, refusal = self._confirmations.execute(reading, shard)
        for exc in (*answers, refusal):
            if isinstance(exc, Exception):
                raise exc
        return answers

    def _copy(self, task: tasks.Task, home: int) -> None:
        """Copy the task to the shards of its channels. A newer copy stays."""
        watching = {shard for channel in task.to for shard in self._keys.shards_of(channel)}
        for shard in sorted(watching - {home}):
            self._run(task_call(task, self._keys, shard=shard, expected_version=-1))


class _Repeated:
    """The state stored by an earlier attempt of the same call, and the present state, if the task still exists."""

    def __init__(self, task: tasks.Task, stored: tasks.Task | None) -> None:
        self.task = task
        self.stored = stored


def _created(task: tasks.Task, kept: tasks.Task | None) -> tasks.Task:
    if kept is not None:
        raise Conflict(f"a task with the id {task.id} exists", field="id")
    return task


def _changed(task_id: str, change: Mapping[str, object], kept: tasks.Task | None) -> tasks.Task:
    return _present(task_id, kept).changed(change, now_ms=_now_ms())


def _present(task_id: str, kept: tasks.Task | None) -> tasks.Task:
    if kept is None:
        raise no_task(task_id)
    return kept


def _now_ms() -> int:
    return int(time.time() * 1000)


def _idempotency(key: str, content: object) -> Idempotency:
    """The key, in the bridge's own namespace, and a digest of the content it stands for."""
    digest = hashlib.sha256(to_json(content).encode()).hexdigest()
    return Idempotency(f"bridge:{key}", digest)
