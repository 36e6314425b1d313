"""Where the messages of one user's own channel are, and the user's marks, as script calls and their answers: for the
Django bridge. The service keeps what it has read (`message_rows`).

Must not know: connections, frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from notifier.broker.inbox import Row
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import Call, reading, script
from notifier.event import new_epoch

PORTION_ENTRIES: Final = 512
PORTION_BYTES: Final = 256 * 1024
"""Bounds of what one call reads: about a millisecond of Redis."""


@dataclass(frozen=True, slots=True)
class ReadMarks:
    read_up_to: int = 0
    read: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()


class Look:
    """`call` is run and its answer goes to `add`, until `is_complete`."""

    def __init__(self, keys: Keys, user: str) -> None:
        self._keys = keys
        self._user = user
        self._reached = 0
        self.top = -1
        self.marks = ReadMarks()
        self.rows: list[Row] = []

    @property
    def is_complete(self) -> bool:
        return self._reached >= self.top >= 0

    @property
    def call(self) -> Call:
        shard, keys, channel = self._keys.shard_of_name(self._user), self._keys, f"user:{self._user}"
        names = [keys.epoch(shard), keys.seq(shard), keys.read(shard, self._user), keys.hidden(shard, self._user)]
        names += [keys.log(shard, channel), keys.meta(shard, channel)]
        return Call(script("messages"), shard, names, [new_epoch(), 1, PORTION_ENTRIES, PORTION_BYTES, self._reached])

    def add(self, answer: Any) -> None:
        with reading("messages"):
            _, top, up_to, read, hidden, _, (_, reached, _, *flat) = answer
            self.top = int(top)
            self.marks = ReadMarks(int(up_to), _ids(read), _ids(hidden))
            self._reached = int(reached)
            for seq, message_id, expires_at_ms, excluded in zip(*[iter(flat)] * 4, strict=True):
                if f"\n{self._user}\n" not in excluded.decode("utf-8", "replace"):
                    self.rows.append((int(seq), message_id.decode("utf-8", "replace"), int(expires_at_ms)))


def _ids(raw: Any) -> frozenset[str]:
    return frozenset(message_id.decode("utf-8", "replace") for message_id in raw)
