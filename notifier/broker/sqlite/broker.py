"""The embedded broker over an SQLite file: a restart goes on in the same epoch, with everything that was answered.

Reads are from memory, as without a file. Each call is answered when what it read or changed is on the disk.

Must not know: SQL, threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from notifier.broker import Sink
from notifier.broker.afterwards import Join, RecordTexts
from notifier.broker.embedded.afterwards import MemoryAfterwards
from notifier.broker.embedded.broker import EmbeddedBroker
from notifier.broker.embedded.marks import UserMarks
from notifier.broker.sqlite import rows
from notifier.broker.sqlite.file import File, Synchronous
from notifier.broker.sqlite.journal import SqliteJournal
from notifier.broker.sqlite.writer import Writer
from notifier.broker.values import (
    FrameChange,
    History,
    Idempotency,
    MarkAction,
    Marked,
    Opening,
    Options,
    Page,
    Receipt,
    TaskChange,
)
from notifier.event import Cursor, Event
from notifier.exclusion import Exclusion
from notifier.histogram import Histogram
from notifier.output import KEPT_BYTES, Appended, Output
from notifier.task import Task
from notifier.task_record import from_record

Answer = TypeVar("Answer")


class SqliteBroker(EmbeddedBroker):
    """Stores everything in memory and in a file. Raises OSError where the file cannot be used."""

    afterwards: MemoryAfterwards

    def __init__(
        self,
        path: Path,
        *,
        history: History,
        max_replay: int,
        output_bytes: int = KEPT_BYTES,
        synchronous: Synchronous = "full",
    ) -> None:
        file = File(path, synchronous)
        try:
            self._writer = Writer(file, self._changed_away, lambda: Cursor(self._epoch, self._seq))
            start, logs = file.read()
            self._stored = SqliteJournal(logs, start.seq, self._writer.write)
            super().__init__(
                history=history, max_replay=max_replay, output_bytes=output_bytes, journal=self._stored, start=start
            )
            self.afterwards = _FileAfterwards(
                self._writer, self._history, self._marks, self._stored, lambda: Cursor(self._epoch, self._seq)
            )
            self._damaged = self._restore(file)
        except BaseException:
            file.close()
            raise

    @classmethod
    def from_url(cls, url: str, options: Options) -> Self:
        return cls(
            path_of(url),
            history=options.history,
            max_replay=options.max_replay,
            output_bytes=options.output_bytes,
            synchronous=options.sqlite_synchronous,
        )

    def _restore(self, file: File) -> int:
        """Take what the file has beside the logs. Returns the number of rows that are not in notifier's form."""
        damaged = 0
        for (record,) in file.select("SELECT record FROM tasks ORDER BY place"):
            task = from_record(record)
            if task is None:
                damaged += 1
            else:
                self._tasks.restore(task)
        for piece in file.select("SELECT task, n, chars, text FROM outputs ORDER BY task, n"):
            self._tasks.restore_output(*piece)
        for user, action, marked_id in file.select("SELECT user, action, id FROM marks ORDER BY place"):
            marks = self._marks.setdefault(user, UserMarks())
            if action != "all":
                (marks.hidden if action == "delete" else marks.read)[marked_id] = None
            elif marked_id.isdecimal():
                marks.read_up_to = int(marked_id)
            else:
                damaged += 1
        for key, fingerprint, text, expires_ms in file.select(
            "SELECT key, fingerprint, answer, expires_ms FROM answers ORDER BY place"
        ):
            answer = rows.answer_of(text, self._epoch)
            if answer is None:
                damaged += 1
            else:
                self._idempotency.restore(Idempotency(key, fingerprint), answer, expires_ms / 1000)
        for record in file.select("SELECT user, id, ends_s, text FROM records ORDER BY ends_s, id"):
            self.afterwards.restore(*record)
        return damaged

    # Lifecycle

    async def start(self, sink: Sink) -> None:
        self._writer.start()
        await super().start(_Announcing(sink, self._writer))

    async def close(self) -> None:
        await self._writer.close()
        await super().close()

    async def failed(self) -> None:
        await self._writer.failed()

    @property
    def ready(self) -> bool:
        return super().ready and not self._writer.away

    @property
    def round_trips(self) -> Histogram:
        return self._writer.commit_times

    @property
    def skipped(self) -> int:
        return self._damaged + self._stored.skipped

    def _changed_away(self, away: bool) -> None:
        if self._sink is None:
            return
        if not away:
            self._sink.resync(None)  # the streams that could not be opened
        self._sink.degraded(away)

    async def _answered(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer of a call, once it is on the disk."""
        if self._writer.away:
            call.close()
        self._writer.check()
        return await self._written(await call)

    async def _written(self, answer: Answer) -> Answer:
        """The answer, once everything that it may depend on is on the disk."""
        return await self._writer.written(answer) if self._writer.pending else answer

    # Calls

    def submit(self, event: Event, idempotency: Idempotency | None = None) -> Receipt | Awaitable[Receipt]:
        self._writer.check()
        receipt = super().submit(event, idempotency)
        assert isinstance(receipt, Receipt)
        return self._writer.written(receipt) if self._writer.pending else receipt

    async def open(
        self,
        user: str,
        channels: Sequence[str],
        cursor: Cursor | str | None,
        *,
        subscribe: bool = False,
        portion_bytes: int = 0,
        continued: bool = False,
        joined: Mapping[str, int] | None = None,
    ) -> Opening:
        call = super().open(
            user,
            channels,
            cursor,
            subscribe=subscribe,
            portion_bytes=portion_bytes,
            continued=continued,
            joined=joined,
        )
        return await self._answered(call)

    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        call = super().inbox(user, channels, limit=limit, before=before, unread_only=unread_only)
        return await self._answered(call)

    async def retract(self, message_id: str, channels: Sequence[str]) -> None:
        await self._answered(super().retract(message_id, channels))

    async def correct(self, message_id: str, channels: Sequence[str], change: FrameChange) -> Sequence[str]:
        return await self._answered(super().correct(message_id, channels, change))

    async def unread(self, user: str, channels: Sequence[str]) -> int:
        return await self._answered(super().unread(user, channels))

    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        return await self._answered(super().mark(user, channels, action, ids))

    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        return await self._answered(super().create_task(task, idempotency))

    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        return await self._answered(super().change_task(task_id, change, idempotency))

    async def task(self, task_id: str) -> Task | None:
        return await self._answered(super().task(task_id))

    async def append_output(self, task_id: str, text: str, idempotency: Idempotency | None = None) -> Appended:
        return await self._answered(super().append_output(task_id, text, idempotency))

    async def output(self, task_id: str, after: int) -> Output:
        return await self._answered(super().output(task_id, after))

    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        return await self._answered(super().stalled_tasks(before_ms))

    async def due_questions(self, before_ms: int) -> Sequence[str]:
        return await self._answered(super().due_questions(before_ms))

    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        return await self._answered(super().tasks(user, channels))

    async def dismiss_task(self, user: str, task_id: str) -> None:
        await self._answered(super().dismiss_task(user, task_id))

    async def forget(self, user: str) -> None:
        await self._answered(super().forget(user))


class _FileAfterwards(MemoryAfterwards):
    """Records of connections in the file: written once a second with the next group, and no call waits for them."""

    def __init__(self, writer: Writer, *state: Any) -> None:
        super().__init__(*state)
        self._writer = writer

    async def note(
        self, users: Mapping[str, RecordTexts], *, ttl_s: int, join: Join = dict, joinable: Collection[str] = ()
    ) -> Sequence[str]:
        # Without this, a group would grow as long as the file cannot be written.
        if self._writer.away:
            return list(users)
        return await super().note(users, ttl_s=ttl_s, join=join, joinable=joinable)


class _Announcing:
    """A sink whose deliveries wait for the disk; everything else passes at once."""

    def __init__(self, sink: Sink, writer: Writer) -> None:
        self._sink = sink
        self._writer = writer
        self.joining = writer.joining = sink.joining
        self.resync = sink.resync
        self.disconnect = sink.disconnect
        self.control = sink.control
        self.presence = sink.presence
        self.degraded = sink.degraded

    def deliver(
        self,
        topic: str,
        epoch: str,
        seq: int,
        key: str,
        wire: bytes,
        excluded: Exclusion | None = None,
        accepted_us: int = 0,
    ) -> None:
        self._writer.announce(partial(self._sink.deliver, topic, epoch, seq, key, wire, excluded, accepted_us))

    def deliver_state(
        self, topic: str, key: str, wire: bytes, excluded: Exclusion | None = None, accepted_us: int = 0
    ) -> None:
        self._writer.announce(partial(self._sink.deliver_state, topic, key, wire, excluded, accepted_us))

    def retract(self, topic: str, message_id: str) -> None:
        self._writer.announce(partial(self._sink.retract, topic, message_id))


def path_of(url: str) -> Path:
    """The file that an address names. Raises ValueError."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.query or parts.fragment or not path.startswith("/") or path.endswith("/"):
        raise ValueError("an SQLite file is named by its absolute path: sqlite:///var/lib/notifier/notifier.db")
    return Path(path)
