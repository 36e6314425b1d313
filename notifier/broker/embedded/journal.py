"""What the embedded broker tells of its state's changes, so that a backend can store them.

The state in memory is what every call reads. A journal receives each change after it was made, in order, and gives back
the logs that an earlier process stored. Must not know: streams, users' channels, what a change is for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from notifier.broker.embedded.log import Entry, Log
from notifier.broker.values import Idempotency, MarkAction
from notifier.task import Task


@dataclass(frozen=True, slots=True)
class Start:
    """Where a broker goes on."""

    epoch: str
    seq: int = 0
    """The newest seq that was given to an event."""
    swept_up_to: int = 0
    """The newest seq of all removed logs."""
    topics_up_to: int = 0
    """The newest seq of all removed logs of topics."""


class Journal:
    """Stores nothing: a restart forgets everything. Backends that store override all methods."""

    # Logs

    def append(self, channel: str, log: Log, entry: Entry, trimmed: Sequence[Entry]) -> None:
        """A log has a new entry, and its oldest ones, `trimmed`, have left it."""

    def remove_entries(self, channel: str, log: Log, seqs: Sequence[int]) -> None:
        """These entries have left the log, which may have lost its newest. Its `last`, `low` and `appended_s` are to be
        kept."""

    def change_entry(self, channel: str, log: Log, entry: Entry) -> None:
        """An entry of the log has another frame."""

    def empty(self, channel: str, log: Log) -> None:
        """A log has no entries any more. Its `last`, `low` and `appended_s` are to be kept."""

    def remove_log(self, channel: str, swept_up_to: int) -> None:
        """A log was removed. `swept_up_to` is the newest seq of all removed logs; for a topic, of those of topics."""

    def take(self, channel: str) -> Log | None:
        """A stored log, given once: its history is kept in memory from then on."""
        return None

    def waiting(self) -> Collection[str]:
        """The channels whose stored logs were not taken yet."""
        return ()

    def appended_s(self, channel: str) -> float:
        """The time of the last event of a log that was not taken yet (s since 1970); else the present."""
        return time.time()

    # Tasks, marks, answers

    def put_task(self, task: Task) -> None: ...

    def remove_task(self, task_id: str) -> None: ...

    def append_output(self, task_id: str, n: int, chars: int, text: str) -> None:
        """A task's output has a new piece, with which it has `chars` characters."""

    def remove_output(self, task_id: str, up_to: int | None = None) -> None:
        """The pieces of a task's output up to this number were removed; without it, all."""

    def mark(self, user: str, action: MarkAction, ids: Sequence[str], top: int, evicted: Sequence[str]) -> None:
        """A user's marks have changed by `UserMarks.add`, which removed the ids `evicted`."""

    def remove_marks(self, user: str) -> None: ...

    def put_records(self, user: str, texts: Mapping[str, str], ends_s: float) -> None:
        """Records of a user's connections, by their ids, were noted; they are kept until `ends_s` (s since 1970)."""

    def remove_records(self, user: str, ids: Sequence[str] | None) -> None:
        """Records of a user's connections were removed; None: all."""

    def put_answer(self, idempotency: Idempotency, answer: object, expires_s: float) -> None:
        """A receipt or a task was given as the answer under an idempotency key."""

    def remove_answer(self, key: str) -> None: ...
