"""The tasks of the broker on Redis. The record is stored on the home shard of the task's id, with copies on the shards
of its recipients.

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
from notifier.broker.redis.scripts import TaskWriteResult, reading, task_call, task_write_result
from notifier.errors import BrokerUnavailable, Conflict, NotFound
from notifier.task import Task, from_record

MAX_RETRIES: Final = 100
"""Attempts of one change against concurrent changes of the same task. Each compare-and-set round lets one succeed."""


class RedisTasks:
    """The tasks of all processes."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def create(self, task: Task, idempotency: Idempotency | None) -> Task:
        """See `Broker.create_task`."""
        result = await self._write(task, 0, idempotency)
        if result.repeated:
            return _repeated(result, task.id)
        if not result.stored:
            raise Conflict(f"a task with the id {task.id} exists", field="id")
        await self._copy(task)
        return task

    async def change(self, task_id: str, change: TaskChange, idempotency: Idempotency | None) -> Task:
        """See `Broker.change_task`."""
        for _ in range(MAX_RETRIES):
            task, earlier = await self._read(task_id, idempotency)
            if earlier is not None:
                return earlier
            if task is None:
                raise NotFound(f"there is no task {task_id!r}", field="id")
            changed = change(task)
            if changed is task:
                return task
            result = await self._write(changed, task.version, idempotency)
            if result.repeated:
                return _repeated(result, task_id)
            if result.stored:
                await self._copy(changed)
                return changed
            await asyncio.sleep(random.uniform(0, 0.005))
        raise BrokerUnavailable(f"too many concurrent changes of the task {task_id}")

    async def find(self, task_id: str) -> Task | None:
        """A task that has not expired."""
        return (await self._read(task_id, None))[0]

    async def stalled(self, before_ms: int) -> Sequence[str]:
        """See `Broker.stalled_tasks`. Oldest first within each shard."""
        bounds = ("-inf", f"({before_ms}", "BYSCORE", "LIMIT", 0, MAX_STALLED)
        shards = range(self._keys.shards)
        replies = [await self._commands.call("ZRANGE", self._keys.beats(shard), *bounds) for shard in shards]
        return [task_id.decode("utf-8", "replace") for ids in replies for task_id in ids]

    async def _write(self, task: Task, expected_version: int, idempotency: Idempotency | None) -> TaskWriteResult:
        shard = self._keys.shard_of_name(task.id)
        call = task_call(task, self._keys, shard=shard, expected_version=expected_version, idempotency=idempotency)
        answer = await self._commands.run(call)
        with reading("task"):
            return task_write_result(answer)

    async def _copy(self, task: Task) -> None:
        home = self._keys.shard_of_name(task.id)
        shards = {shard for channel in task.to for shard in self._keys.shards_of(channel)}
        for shard in shards - {home}:
            await self._commands.run(task_call(task, self._keys, shard=shard, expected_version=-1))

    async def _read(self, task_id: str, idempotency: Idempotency | None) -> tuple[Task | None, Task | None]:
        """The stored task, and the task that was answered under this idempotency key before. Raises
        `IdempotencyMismatch`."""
        shard = self._keys.shard_of_name(task_id)
        reading = self._commands.call("HGET", self._keys.task(shard, task_id), "record")
        if idempotency is None:
            return _task(await reading), None
        asking = self._commands.call("HMGET", self._keys.idempotency(shard, idempotency.key), "fingerprint", "answer")
        record, (fingerprint, answer) = await asyncio.gather(reading, asking)
        if fingerprint is None:
            return _task(record), None
        state = "same" if fingerprint == idempotency.fingerprint.encode() else "other"
        return None, _repeated(task_write_result([state, answer]), task_id)


def _task(record: bytes | None) -> Task | None:
    return None if record is None else from_record(record)


def _repeated(result: TaskWriteResult, task_id: str) -> Task:
    task = _task(result.record)
    if task is None:
        raise NotFound(f"there is no task {task_id!r}", field="id")
    return task
