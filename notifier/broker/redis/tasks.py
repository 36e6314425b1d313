"""The tasks of the broker on Redis. The record is stored on the home shard of the task's id, with copies on the shards
of its recipients.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.output_calls import TASK_FIELDS, stored_task
from notifier.broker.redis.scripts import Call, TaskWriteResult, reading, script, task_call, task_write_result
from notifier.broker.redis.shards import Shards
from notifier.broker.values import MAX_LISTED_TASKS, MAX_STALLED, Idempotency, TaskChange
from notifier.errors import BrokerUnavailable, Conflict, NotFound, no_task
from notifier.portions import all_ended
from notifier.task import MAX_SNAPSHOT, Task
from notifier.task_record import from_record

MAX_RETRIES: Final = 100
"""Attempts of one change against concurrent changes of the same task. Each compare-and-set round lets one succeed."""

SLICE: Final = 500
"""Records that one call reads: it keeps Redis busy for about a millisecond."""
MAX_ROUNDS: Final = 10
"""How often one call reads on in an index, in the place of expired tasks."""

FORGET_SLICE: Final = 200
"""Tasks of a forgotten user that are deleted concurrently."""


class RedisTasks:
    """The tasks of all processes."""

    def __init__(self, shards: Shards, keys: Keys) -> None:
        self._shards = shards
        self._keys = keys

    async def create(self, task: Task, idempotency: Idempotency | None) -> Task:
        """See `Broker.create_task`."""
        result = await self._write(task, 0, idempotency)
        if result.repeated:
            return await self._repeated(result, task.id)
        if not result.stored:
            raise Conflict(f"a task with the id {task.id} exists", field="id")
        await self._copy(task)
        return task

    async def change(self, task_id: str, change: TaskChange, idempotency: Idempotency | None) -> Task:
        """See `Broker.change_task`."""
        for _ in range(MAX_RETRIES):
            confirmed = self._shards.confirmation(self._keys.shard_of_name(task_id))
            task, earlier = await self._read(task_id, idempotency)
            if earlier is not None:
                await self._copy(task)
                await confirmed()
                return _with_counts(earlier, task)
            if task is None:
                raise no_task(task_id)
            changed = change(task)
            if changed is task:
                await confirmed()  # an earlier call may have stored it
                return task
            result = await self._write(changed, task.version, idempotency)
            if result.repeated:
                return await self._repeated(result, task_id)
            if result.stored:
                # Pieces may have been appended since the task was read: its version stays the same then.
                changed = dataclasses.replace(changed, output_n=result.output[0], output_chars=result.output[1])
                await self._copy(changed)
                return changed
            await asyncio.sleep(random.uniform(0, 0.005))
        raise BrokerUnavailable(f"too many concurrent changes of the task {task_id}")

    async def find(self, task_id: str) -> Task | None:
        """A task that has not expired."""
        return (await self._read(task_id, None))[0]

    async def stalled(self, before_ms: int) -> Sequence[str]:
        """See `Broker.stalled_tasks`. Oldest first within each shard. Shards that were away since are left out:
        heartbeats could not be received."""
        before = time.monotonic() - (time.time() - before_ms / 1000)
        live = [shard for shard in range(self._keys.shards) if self._shards.is_live_since(shard, before)]
        return [task.id for task in await self._oldest(live, self._keys.beats, before_ms, lambda _: True)]

    async def due_questions(self, before_ms: int) -> Sequence[str]:
        """See `Broker.due_questions`. Earliest first within each shard."""
        live = [shard for shard in range(self._keys.shards) if self._shards.is_live(shard)]
        # A task that does not ask any more stays in the index until the deadline. If it asks again while this call
        # removes it, `stalled` finds the question later.
        return [task.id for task in await self._oldest(live, self._keys.asking, before_ms, lambda task: task.question)]

    async def _oldest(
        self, shards: Iterable[int], key: Callable[[int], str], before_ms: int, belongs: Callable[[Task], object]
    ) -> list[Task]:
        """The tasks of an index by time, without those that do not belong there: these are removed from it."""
        tasks: list[Task] = []
        for shard in shards:
            try:
                tasks += await self._oldest_on(shard, key(shard), before_ms, belongs)
            except BrokerUnavailable:
                if self._keys.shards == 1:
                    raise
        return tasks

    async def _oldest_on(self, shard: int, index: str, before_ms: int, belongs: Callable[[Task], object]) -> list[Task]:
        kept: list[Task] = []
        # What is left after a few rounds of removals is removed by the next call.
        for _ in range(MAX_ROUNDS):
            bounds = ("-1", f"({before_ms}", "BYSCORE", "LIMIT", len(kept), min(SLICE, MAX_STALLED - len(kept)))
            raw_ids = await self._shards.call(shard, "ZRANGE", index, *bounds)
            records = await self._records(shard, [index], raw_ids, None)
            tasks = {raw_id: from_record(record) for raw_id, record in records.items()}
            kept += [task for task in tasks.values() if task is not None and belongs(task)]
            if others := [raw_id for raw_id, task in tasks.items() if task is None or not belongs(task)]:
                await self._shards.call(shard, "ZREM", index, *others)
            if not raw_ids or len(kept) == MAX_STALLED:
                break
        return kept

    async def snapshot(self, user: str, channels: Sequence[str], ids: Sequence[Sequence[bytes]]) -> list[Task]:
        """The tasks of these channels, last changed first, without those that the user dismissed. `ids` are the first
        `MAX_SNAPSHOT` of each channel's index; others are read in the place of expired ones."""
        shard = self._keys.shard_of_name(user)
        indexes = [self._keys.tasks(shard, channel) for channel in channels]
        hidden = self._keys.hidden(shard, user)
        records: dict[bytes, bytes] = {}
        due = dict(zip(indexes, ids, strict=True))
        for _ in range(MAX_ROUNDS):
            unknown = [raw_id for raw_id in dict.fromkeys(chain(*due.values())) if raw_id not in records]
            for start in range(0, len(unknown), SLICE):
                records |= await self._records(shard, indexes, unknown[start : start + SLICE], hidden)
            kept = {index: sum(raw_id in records for raw_id in raw_ids) for index, raw_ids in due.items()}
            short = [index for index, raw_ids in due.items() if kept[index] < len(raw_ids) == MAX_SNAPSHOT]
            if not short:
                break
            # The expired ones are no longer in the index.
            again = await asyncio.gather(
                *(self._shards.call(shard, "ZREVRANGE", index, 0, MAX_SNAPSHOT - 1) for index in short)
            )
            due = dict(zip(short, again, strict=True))
        tasks = [task for record in records.values() if record and (task := from_record(record)) is not None]
        return sorted(tasks, key=lambda task: task.updated_at_ms, reverse=True)

    async def _records(
        self, shard: int, indexes: Sequence[str], ids: Sequence[bytes], hidden: str | None
    ) -> dict[bytes, bytes]:
        """The records of those of the ids that have one, in order; empty for dismissed tasks."""
        if not ids:
            return {}
        prefix = self._keys.task_prefix(shard)
        names = [*indexes, *(prefix + raw_id.decode("utf-8", "replace") for raw_id in ids)]
        if hidden is not None:
            names.append(hidden)
        records = await self._shards.run(Call(script("records"), shard, names, [len(indexes), *ids]))
        with reading("records"):
            return {raw_id: record for raw_id, record in zip(ids, records, strict=True) if record is not None}

    async def of_user(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        """See `Broker.tasks`."""
        shard = self._keys.shard_of_name(user)
        indexes = [self._keys.tasks(shard, channel) for channel in channels]
        calls = (self._shards.call(shard, "ZREVRANGE", index, 0, MAX_SNAPSHOT - 1) for index in indexes)
        ids = await asyncio.gather(*calls)
        return (await self.snapshot(user, channels, ids))[:MAX_LISTED_TASKS]

    async def forget(self, user: str, channel: str) -> None:
        """Delete the tasks of a user's channel. Those with other recipients stay for these."""
        shard = self._keys.shard_of_name(user)
        index = self._keys.tasks(shard, channel)
        while ids := await self._shards.call(shard, "ZRANGE", index, 0, FORGET_SLICE - 1):
            names = [raw_id.decode("utf-8", "replace") for raw_id in ids]
            await asyncio.gather(*(self._forget(task_id, channel, shard) for task_id in names))
            # Last, so that a call that failed can be repeated.
            await self._shards.call(shard, "ZREM", index, *ids)

    async def _forget(self, task_id: str, channel: str, shard: int) -> None:
        home = self._keys.shard_of_name(task_id)
        task = await self.find(task_id)
        shards = {home, shard}
        if task is not None and set(task.to) - {channel}:
            with contextlib.suppress(NotFound):
                task = await self.change(task_id, lambda stored: stored.without(channel), None)
                shards -= {home, *self._watching(task)}
        else:
            for index in (self._keys.beats(home), self._keys.asking(home)):
                await self._shards.call(home, "ZREM", index, task_id)
        for place in shards:
            await self._shards.call(place, "DEL", self._keys.task(place, task_id), self._keys.output(place, task_id))

    async def _write(self, task: Task, expected_version: int, idempotency: Idempotency | None) -> TaskWriteResult:
        shard = self._keys.shard_of_name(task.id)
        call = task_call(task, self._keys, shard=shard, expected_version=expected_version, idempotency=idempotency)
        answer = await self._shards.run(call)
        with reading("task"):
            return task_write_result(answer)

    async def _copy(self, task: Task | None) -> None:
        """Write the copies of a stored task. A copy of the same or a newer version stays as it is."""
        if task is not None:
            shards = self._watching(task) - {self._keys.shard_of_name(task.id)}
            calls = (task_call(task, self._keys, shard=shard, expected_version=-1) for shard in shards)
            # One shard that is away does not keep the others from their copies.
            await all_ended(map(self._shards.run, calls))

    async def _repeated(self, result: TaskWriteResult, task_id: str) -> Task:
        """What an earlier call with the idempotency key has stored. That call may have failed before its copies were
        written."""
        task = await self.find(task_id)
        await self._copy(task)
        return _with_counts(_repeated(result, task_id), task)

    def _watching(self, task: Task) -> set[int]:
        """The shards of its recipients."""
        return {shard for channel in task.to for shard in self._keys.shards_of(channel)}

    async def _read(self, task_id: str, idempotency: Idempotency | None) -> tuple[Task | None, Task | None]:
        """The stored task, and the task that was answered under this idempotency key before. Raises
        `IdempotencyMismatch`."""
        shard = self._keys.shard_of_name(task_id)
        reading = self._shards.call(shard, "HMGET", self._keys.task(shard, task_id), *TASK_FIELDS)
        if idempotency is None:
            return stored_task(await reading), None
        key = self._keys.idempotency(shard, idempotency.key)
        asking = self._shards.call(shard, "HMGET", key, "fingerprint", "answer")
        fields, (fingerprint, answer) = await asyncio.gather(reading, asking)
        if fingerprint is None:
            return stored_task(fields), None
        state = "same" if fingerprint == idempotency.fingerprint.encode() else "other"
        return stored_task(fields), _repeated(task_write_result([state, answer]), task_id)


def _with_counts(earlier: Task, task: Task | None) -> Task:
    """An earlier state with the present counts of the output, which its record does not have."""
    if task is None:
        return earlier
    return dataclasses.replace(earlier, output_n=task.output_n, output_chars=task.output_chars)


def _repeated(result: TaskWriteResult, task_id: str) -> Task:
    task = None if result.record is None else from_record(result.record)
    if task is None:
        raise no_task(task_id)
    return task
