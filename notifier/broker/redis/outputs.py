"""The output of tasks on Redis: a stream of pieces on the home shard of the task's id.

Must not know: users' marks, streams, events.
"""

from __future__ import annotations

from typing import Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.output_calls import Piece
from notifier.broker.redis.scripts import reading
from notifier.broker.redis.shards import Shards
from notifier.broker.values import Idempotency
from notifier.errors import no_task
from notifier.output import Appended, Output
from notifier.task import Task

SLICE: Final = 2000
"""Pieces in one read of a long output."""


class RedisOutputs:
    """The outputs of all processes; `max_bytes` is the bound of each."""

    def __init__(self, shards: Shards, keys: Keys, *, max_bytes: int) -> None:
        self._shards = shards
        self._keys = keys
        self._max_bytes = max_bytes

    async def append(self, task: Task, text: str, idempotency: Idempotency | None) -> Appended:
        """See `Broker.append_output`, of a stored task."""
        piece = Piece(task, text, self._max_bytes)
        # A piece that is stored and not announced everywhere would be refused, and appended again by its producer.
        self._shards.require(piece.shards(self._keys))
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
        pieces = await self._pieces(home, task_id, n)
        with reading("HMGET"):
            if count[0] is None:
                raise no_task(task_id)
            newest = pieces[-1][0] if pieces else int(count[1] or 0)
        first = pieces[0][0] if pieces else newest + 1
        text = b"".join(piece for _, piece in pieces).decode("utf-8", "replace")
        return Output(newest, text, truncated=first > n + 1)

    async def _pieces(self, home: int, task_id: str, n: int) -> list[tuple[int, bytes]]:
        """The pieces after the number `n`, read in slices that take Redis about 1 ms."""
        pieces: list[tuple[int, bytes]] = []
        while True:
            last = pieces[-1][0] if pieces else n
            key = self._keys.output(home, task_id)
            entries = await self._shards.call(home, "XRANGE", key, f"{last + 1}-0", "+", "COUNT", SLICE)
            with reading("XRANGE"):
                more = [(int(entry_id.partition(b"-")[0]), fields[1]) for entry_id, fields in entries]
            if more and more[0][0] > last + 1:
                pieces.clear()  # the oldest have gone meanwhile: a text without its beginning, not one with a hole
            pieces += more
            if len(more) < SLICE:
                return pieces
