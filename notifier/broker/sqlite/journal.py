"""Every change of the embedded broker's state as rows of the file, and the logs that the file had at the start.

Must not know: threads, when rows are written, streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from notifier.broker.embedded.journal import Journal
from notifier.broker.embedded.log import Entry, Log
from notifier.broker.sqlite import rows
from notifier.broker.sqlite.rows import Row
from notifier.broker.values import Idempotency, MarkAction
from notifier.rules import is_topic
from notifier.task import Task


class SqliteJournal(Journal):
    """Gives each change to `write`. `stored` are the logs of the file, up to the seq `top`."""

    def __init__(self, stored: dict[str, bytes], top: int, write: Callable[[Row], None]) -> None:
        self._stored = stored
        self._top = top
        self._write = write
        self.skipped = 0
        """Stored entries that were not in notifier's form."""

    def append(self, channel: str, log: Log, entry: Entry, trimmed: Sequence[Entry]) -> None:
        text = rows.entry_text(log, entry)
        if log.marker:
            self._write((rows.REMOVE_ENTRY, (channel, log.marker)))
            log.marker = 0
        for each in trimmed[:-1]:
            self._write((rows.REMOVE_ENTRY, (channel, each.seq)))
        if trimmed:
            self._write((rows.REPLACE_ENTRY, (entry.seq, text, channel, trimmed[-1].seq)))
        else:
            self._write((rows.APPEND, (channel, entry.seq, text)))

    def remove_entries(self, channel: str, log: Log, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self._write((rows.REMOVE_ENTRY, (channel, seq)))
        if log.last in seqs:
            self._mark_end(channel, log)

    def change_entry(self, channel: str, log: Log, entry: Entry) -> None:
        self._write((rows.REPLACE_ENTRY, (entry.seq, rows.entry_text(log, entry), channel, entry.seq)))

    def empty(self, channel: str, log: Log) -> None:
        self._write((rows.REMOVE_LOG, (channel,)))
        self._mark_end(channel, log)

    def _mark_end(self, channel: str, log: Log) -> None:
        self._write((rows.APPEND, (channel, log.last, rows.empty_text(log))))
        log.marker = log.last

    def remove_log(self, channel: str, swept_up_to: int) -> None:
        self._write((rows.REMOVE_LOG, (channel,)))
        name = "topics_up_to" if is_topic(channel) else "swept_up_to"
        self._write((rows.SET_META, (name, str(swept_up_to))))

    def take(self, channel: str) -> Log | None:
        entries = self._stored.pop(channel, None)
        if entries is None:
            return None
        log, skipped = rows.log_of(entries, self._top)
        self.skipped += skipped
        return log

    def waiting(self) -> Collection[str]:
        return self._stored.keys()

    def appended_s(self, channel: str) -> float:
        entries = self._stored.get(channel)
        return time.time() if entries is None else rows.appended_s_of(entries)

    def put_task(self, task: Task) -> None:
        self._write((rows.PUT_TASK, (task.id, task.record())))

    def remove_task(self, task_id: str) -> None:
        self._write((rows.REMOVE_TASK, (task_id,)))

    def append_output(self, task_id: str, n: int, chars: int, text: str) -> None:
        self._write((rows.APPEND_OUTPUT, (task_id, n, chars, text)))

    def remove_output(self, task_id: str, up_to: int | None = None) -> None:
        if up_to is None:
            self._write((rows.REMOVE_OUTPUT, (task_id,)))
        else:
            self._write((rows.REMOVE_PIECES, (task_id, up_to)))

    def mark(self, user: str, action: MarkAction, ids: Sequence[str], top: int, evicted: Sequence[str]) -> None:
        if action == "all":
            self._write((rows.REMOVE_READ, (user,)))
            ids = [str(top)]
        for marked_id in ids:
            self._write((rows.ADD_MARK, (user, action, marked_id)))
        for marked_id in evicted:
            self._write((rows.REMOVE_MARK, (user, action, marked_id)))

    def remove_marks(self, user: str) -> None:
        self._write((rows.REMOVE_MARKS, (user,)))

    def put_records(self, user: str, texts: Mapping[str, str], ends_s: float) -> None:
        for record_id, text in texts.items():
            self._write((rows.PUT_RECORD, (user, record_id, int(ends_s), text)))

    def remove_records(self, user: str, ids: Sequence[str] | None) -> None:
        if ids is None:
            self._write((rows.REMOVE_RECORDS, (user,)))
        for record_id in ids or ():
            self._write((rows.REMOVE_RECORD, (user, record_id)))

    def put_answer(self, idempotency: Idempotency, answer: object, expires_s: float) -> None:
        fields = (idempotency.key, idempotency.fingerprint, rows.answer_text(answer), int(expires_s * 1000))
        self._write((rows.PUT_ANSWER, fields))

    def remove_answer(self, key: str) -> None:
        self._write((rows.REMOVE_ANSWER, (key,)))
