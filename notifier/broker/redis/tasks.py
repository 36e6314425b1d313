"""The tasks of the broker on Redis: the record lives in the home shard of its id, with copies where its recipients are.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from notifier.broker import MAX_STALLED, Idempotency, TaskChange
from notifier.broker.redis.commands import Commands
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import TaskWriteResult, task_call, task_write_result
from notifier.errors import BrokerUnavailable, Conflict, NotFound
from notifier.task import Task, from_record

MAX_RETRIES: Final = 100
"""Attempts of one change against others who change the same task; each round one of them succeeds."""


class RedisTasks:
    """The tasks of all processes."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def create(self, task: Task, idempotency: Idempotency | None) -> Task:
        """See `Broker.create_task`."""
        answer = await self._put(task, 0, idempotency)
        if answer.repeated:
            return _known(answer, task.id)
        if not answer.stored:
            raise Conflict(f"a task with the id {task.id} exists", field="id")
        await self._copy(task)
        return task

    async def change(self, task_id: str, change: TaskChange, idempotency: Idempotency | None) -> Task:
        """See `Broker.change_task`."""
        for _ in range(MAX_RETRIES):
            task, answered = await self._kept(task_id, idempotency)
            if answered is not None:
                return answered
            if task is None:
                raise NotFound(f"there is no task {task_id!r}", field="id")
            changed = change(task)
            if changed is task:
                return task
            answer = await self._put(changed, task.version, idempotency)
            if answer.repeated:
                return _known(answer, task_id)
            if answer.stored:
                await self._copy(changed)
                return changed
            await asyncio.sleep(random.uniform(0, 0.005))
        raise BrokerUnavailable(f"too many change the task {task_id} at once")

    async def find(self, task_id: str) -> Task | None:
        """A task that is still kept."""
        return (await self._kept(task_id, None))[0]

    async def stalled(self, before_ms: int) -> Sequence[str]:
        """Tasks whose producers gave their last sign before this time, of each shard the longest silent first."""
        bounds = ("-inf", f"({before_ms}", "BYSCORE", "LIMIT", 0, MAX_STALLED)
        shards = range(self._keys.shards)
        found = [await self._commands.call("ZRANGE", self._keys.beats(shard), *bounds) for shard in shards]
        return [one.decode("utf-8", "replace") for ids in found for one in ids]

    async def _put(self, task: Task, expected_version: int, idempotency: Idempotency | None) -> TaskWriteResult:
        shard = self._keys.shard_of_name(task.id)
        call = task_call(task, self._keys, shard=shard, expected_version=expected_version, idempotency=idempotency)
        return task_write_result(await self._commands.run(call))

    async def _copy(self, task: Task) -> None:
        home = self._keys.shard_of_name(task.id)
        watching = {shard for channel in task.to for shard in self._keys.shards_of(channel)}
        for shard in watching - {home}:
            await self._commands.run(task_call(task, self._keys, shard=shard, expected_version=-1))

    async def _kept(self, task_id: str, idempotency: Idempotency | None) -> tuple[Task | None, Task | None]:
        """The task as it is kept, and the one that was answered under this key before."""
        shard = self._keys.shard_of_name(task_id)
        reading = self._commands.call("HGET", self._keys.task(shard, task_id), "record")
        if idempotency is None:
            return _task(await reading), None
        asking = self._commands.call("HMGET", self._keys.idempotency(shard, idempotency.key), "fingerprint", "answer")
        record, (fingerprint, answer) = await asyncio.gather(reading, asking)
        if fingerprint is None:
            return _task(record), None
        state = "same" if fingerprint == idempotency.fingerprint.encode() else "other"
        return None, _known(task_write_result([state, answer]), task_id)


def _task(record: bytes | None) -> Task | None:
    return None if record is None else from_record(record)


def _known(answer: TaskWriteResult, task_id: str) -> Task:
    task = _task(answer.record)
    if task is None:
        raise NotFound(f"there is no task {task_id!r}", field="id")
    return task
