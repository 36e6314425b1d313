"""The output of tasks on Redis: a stream of pieces on the home shard of the task's id.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

from notifier.broker import Idempotency
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.output_calls import Piece
from notifier.broker.redis.scripts import reading
from notifier.broker.redis.shards import Shards
from notifier.errors import NotFound
from notifier.output import Appended, Output
from notifier.task import Task


class RedisOutputs:
    """The outputs of all processes; `max_bytes` is the bound of each."""

    def __init__(self, shards: Shards, keys: Keys, *, max_bytes: int) -> None:
        self._shards = shards
        self._keys = keys
        self._max_bytes = max_bytes

    async def append(self, task: Task, text: str, idempotency: Idempotency | None) -> Appended:
        """See `Broker.append_output`, of a stored task."""
        piece = Piece(task, text, self._max_bytes)
        answer = await self._shards.run(piece.append(self._keys, idempotency))
        with reading("output"):
            appended = piece.appended(answer)
        # Of a repeated call too: the first may have failed before its copies were written.
        for call in piece.copies(self._keys, appended):
            await self._shards.run(call)
        return appended

    async def after(self, task_id: str, n: int) -> Output:
        """See `Broker.output`."""
        home = self._keys.shard_of_name(task_id)
        count = await self._shards.call(home, "HMGET", self._keys.task(home, task_id), "record", "n")
        entries = await self._shards.call(home, "XRANGE", self._keys.output(home, task_id), f"{n + 1}-0", "+")
        with reading("XRANGE"):
            if count[0] is None:
                raise NotFound(f"there is no task {task_id!r}", field="id")
            numbers = [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
            text = b"".join(fields[1] for _, fields in entries).decode("utf-8", "replace")
            newest = numbers[-1] if numbers else int(count[1] or 0)
            first = numbers[0] if numbers else newest + 1
            return Output(newest, text, truncated=first > n + 1)
