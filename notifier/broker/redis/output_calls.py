"""The calls of `output.lua` as values, and a task's record with the counts of its output. As `scripts`, shared by the
service and the Django bridge.

Must not know: asyncio, HTTP, connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier import output
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import Call, script
from notifier.broker.values import IDEMPOTENCY_TTL_S, Idempotency
from notifier.errors import IdempotencyMismatch, no_task
from notifier.output import Appended
from notifier.task import KEEP_RUNNING_S, Task
from notifier.task_record import from_record

TASK_FIELDS: Final = ("record", "n", "chars")
"""The fields of a task's key that `stored_task` reads."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a task's output on its way to the scripts."""

    task: Task
    text: str
    max_bytes: int
    """Most bytes of all pieces."""

    def append(self, keys: Keys, idempotency: Idempotency | None = None) -> Call:
        """The call that stores it on the task's home shard, and announces it there."""
        home = keys.shard_of_name(self.task.id)
        return self._call(keys, home, (0, len(self.text)), idempotency)

    def shards(self, keys: Keys) -> set[int]:
        """The task's home, and the shards of its recipients."""
        watching = {shard for channel in self.task.to for shard in keys.shards_of(channel)}
        return watching | {keys.shard_of_name(self.task.id)}

    def copies(self, keys: Keys, appended: Appended) -> Sequence[Call]:
        """The calls that announce the stored piece on the other shards of its recipients."""
        place = (appended.n, appended.chars)
        others = sorted(self.shards(keys) - {keys.shard_of_name(self.task.id)})
        return [self._call(keys, shard, place, None) for shard in others]

    def _call(self, keys: Keys, shard: int, place: tuple[int, int], idempotency: Idempotency | None) -> Call:
        task_id = self.task.id
        names = [keys.task(shard, task_id), keys.output(shard, task_id)]
        if idempotency:
            names.append(keys.idempotency(shard, idempotency.key))
        channels = [channel for channel in self.task.to if shard in keys.shards_of(channel)]
        args: list[str | bytes | int] = [
            *place,
            "" if place[0] else self.text,
            *output.frame_parts(task_id, self.text),
            self.max_bytes,
            idempotency.fingerprint if idempotency else "",
            IDEMPOTENCY_TTL_S,
            task_id,
            keys.publish_command,
            KEEP_RUNNING_S,
            *(keys.announcements(shard, channel) for channel in channels),
        ]
        return Call(script("output"), shard, names, args)

    def appended(self, answer: Sequence[bytes]) -> Appended:
        """Parse the answer to `append`. Raises `NotFound`, `Conflict`, `IdempotencyMismatch`."""
        state = bytes(answer[0])
        ended = from_record(answer[1]) if state == b"ended" else None
        if ended is not None:
            ended.require_output()
        if state in (b"gone", b"ended"):
            raise no_task(self.task.id)
        if state == b"other":
            raise IdempotencyMismatch("was used with another body less than 5 minutes ago", field="Idempotency-Key")
        n, chars = answer[1].split(b" ")
        return Appended(int(n), int(chars), self.task.cancel_requested)


def stored_task(fields: Sequence[Any]) -> Task | None:
    """The task of a key, from the values of `TASK_FIELDS`. None without a record, or with an invalid one."""
    record, *counts = fields
    if record is None:
        return None
    n, chars = (int(text) if text is not None and text.isdigit() else 0 for text in counts)
    # As `record_of` in reading.lua does it; of repeated names the last one counts.
    return from_record(b'%b,"output_n":%d,"output_chars":%d}' % (record[:-1], n, chars) if n else record)
