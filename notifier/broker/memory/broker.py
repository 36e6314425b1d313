"""The embedded broker: one process, no Redis. Same ids, history, snapshot, reset and inbox.

A restart begins a new epoch, so that clients get a reset and not a silent hole. Everything here is synchronous between
two awaits, which is what makes each step atomic. Must not know: HTTP, streams, Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from notifier import event as events
from notifier.broker import (
    EPHEMERAL_PREFIX,
    MAX_MARKS,
    Broker,
    Idempotency,
    MarkAction,
    Marked,
    Opening,
    Options,
    Page,
    Receipt,
    Sink,
    TaskChange,
)
from notifier.broker.memory.idempotency import IdempotencyStore
from notifier.broker.memory.tasks import MemoryTasks
from notifier.errors import Conflict, NotFound
from notifier.event import Cursor, Event
from notifier.message import message_of
from notifier.task import Task

SWEEP_STEPS: Final = 4
"""Things that are looked at, for each that is kept, for whether they have expired: the search is spread over the
publishes, so that it holds nobody up."""


@dataclass(slots=True)
class _Entry:
    seq: int
    frame: str
    message_id: str
    expires_at_ms: int


@dataclass(slots=True)
class _Channel:
    log: deque[_Entry] = field(default_factory=deque)
    last: int = 0
    low: int = 0
    """Newest seq that is no longer in the log."""
    touched_s: float = 0


@dataclass(slots=True)
class _Marks:
    read_up_to: int = 0
    read: dict[str, None] = field(default_factory=dict)
    hidden: dict[str, None] = field(default_factory=dict)


class MemoryBroker(Broker):
    """Keeps everything in this process."""

    def __init__(self, *, history_size: int, history_ttl_s: float, max_replay: int) -> None:
        self._history_size = history_size
        self._history_ttl_s = history_ttl_s
        self._max_replay = max_replay
        self._epoch = events.new_epoch()
        self._seq = 0
        self._channels: dict[str, _Channel] = {}
        self._swept_up_to = 0
        """Newest seq of all channels that were forgotten as a whole."""
        self._tasks = MemoryTasks()
        self._marks: dict[str, _Marks] = {}
        self._idempotency = IdempotencyStore()
        self._subscribed: set[str] = set()
        self._sweeping = self._sweep()
        self._sink: Sink | None = None

    @classmethod
    def from_url(cls, url: str, options: Options) -> Self:
        return cls(
            history_size=options.history_size, history_ttl_s=options.history_ttl_s, max_replay=options.max_replay
        )

    # The process's side

    async def start(self, sink: Sink) -> None:
        self._sink = sink

    async def close(self) -> None:
        self._sink = None

    async def failed(self) -> None:
        await asyncio.get_running_loop().create_future()

    @property
    def ready(self) -> bool:
        return self._sink is not None

    def topics(self, user: str, channels: Sequence[str]) -> tuple[str, ...]:
        return tuple(channels)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._subscribed.update(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._subscribed.difference_update(topics)

    # Events

    async def publish(self, event: Event, idempotency: Idempotency | None = None) -> Receipt:
        known = self._idempotency.find(idempotency)
        if isinstance(known, Receipt):
            return known
        self._sweep_a_little(len(event.to))
        if event.durable:
            self._seq += 1
        cursor = Cursor(self._epoch, self._seq)
        if event.durable:
            key = event.message_id if event.may_repeat else ""
        else:
            key = EPHEMERAL_PREFIX + events.new_id() if len(event.to) > 1 else ""
        for channel in event.to:
            frame = event.frame_for(channel)
            if event.durable:
                self._append(channel, frame, event)
            self._announce(channel, frame, cursor if event.durable else None, key)
        receipt = Receipt(self._epoch, self._seq, any(one in self._subscribed for one in event.to))
        self._idempotency.keep(idempotency, receipt)
        return receipt

    def _append(self, channel: str, frame: str, event: Event) -> None:
        kept = self._channels[channel] = self._channel(channel)
        kept.log.append(_Entry(self._seq, frame, event.message_id, event.expires_at_ms))
        if len(kept.log) > self._history_size:
            kept.low = kept.log.popleft().seq
        kept.last = self._seq
        kept.touched_s = time.time()

    def _announce(self, channel: str, frame: str, cursor: Cursor | None, key: str = "") -> None:
        if self._sink is None or channel not in self._subscribed:
            return
        if cursor is None:
            self._sink.deliver_state(channel, key, frame.encode())
        else:
            self._sink.deliver(channel, cursor.epoch, cursor.seq, key, f"id: {cursor}\n{frame}".encode())

    def _channel(self, channel: str) -> _Channel:
        """What is kept of a channel. Of one without events, or with none any more, there is nothing to keep."""
        kept = self._channels.get(channel)
        if kept is None:
            return _Channel(low=self._swept_up_to)
        if kept.log and kept.touched_s + self._history_ttl_s < time.time():
            kept.log.clear()
            kept.low = kept.last
        return kept

    async def open(self, user: str, channels: Sequence[str], cursor: Cursor | str | None) -> Opening:
        kept = [self._channel(channel) for channel in channels]
        verdict, replay = self._replay(kept, cursor)
        return Opening(
            verdict=verdict,
            cursor=Cursor(self._epoch, self._seq),
            replay=replay,
            unread=self._count_unread(user, channels),
            tasks=self._visible_tasks(user, channels),
            lasts={channel: one.last for channel, one in zip(channels, kept, strict=True)},
        )

    def _replay(self, kept: list[_Channel], cursor: Cursor | str | None) -> tuple[str, list[tuple[int, bytes]]]:
        if cursor is None:
            return "new", []
        if isinstance(cursor, str) or (cursor.epoch == self._epoch and cursor.seq > self._seq):
            return "cursor_unknown", []
        if cursor.epoch != self._epoch:
            return "epoch_changed", []
        if any(one.low > cursor.seq for one in kept):
            return "history_trimmed", []
        now_ms = time.time() * 1000
        missed: dict[int, bytes] = {}
        for one in kept:
            for entry in reversed(one.log):
                if entry.seq <= cursor.seq:
                    break
                if not 0 < entry.expires_at_ms <= now_ms:
                    missed.setdefault(entry.seq, entry.frame.encode())
        if len(missed) > self._max_replay:
            return "too_many_missed", []
        return "ok", sorted(missed.items())

    # The inbox

    def _messages(self, user: str, channels: Sequence[str]) -> Iterator[tuple[_Entry, bool]]:
        """Every message that the user can see, once, with its read mark; in no order."""
        marks = self._marks.get(user) or _Marks()
        now_ms = time.time() * 1000
        seen: set[str] = set()
        for channel in channels:
            for entry in self._channel(channel).log:
                identity = entry.message_id
                if not identity or identity in seen or 0 < entry.expires_at_ms <= now_ms:
                    continue
                seen.add(identity)
                if identity not in marks.hidden:
                    yield entry, entry.seq <= marks.read_up_to or identity in marks.read

    def _count_unread(self, user: str, channels: Sequence[str]) -> int:
        return sum(not read for _, read in self._messages(user, channels))

    async def unread(self, user: str, channels: Sequence[str]) -> int:
        return self._count_unread(user, channels)

    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        found = sorted(self._messages(user, channels), key=lambda one: one[0].seq, reverse=True)
        unread = sum(not read for _, read in found)
        if before is not None:
            # Also when that message was deleted meanwhile: the page goes on from its place.
            entries = (entry for channel in channels for entry in self._channel(channel).log)
            seqs = [entry.seq for entry in entries if entry.message_id == before]
            found = [one for one in found if seqs and one[0].seq < seqs[0]]
        if unread_only:
            found = [one for one in found if not one[1]]
        messages = [
            {**message, "read": read}
            for entry, read in found[:limit]
            if (message := message_of(entry.frame.encode())) is not None
        ]
        return Page(messages, len(found) > limit, unread, Cursor(self._epoch, self._seq))

    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        marks = self._marks.setdefault(user, _Marks())
        wanted = set(ids)
        changed: list[str] = []
        for entry, read in list(self._messages(user, channels)):
            if action == "delete":
                if entry.message_id in wanted:
                    marks.hidden[entry.message_id] = None
                    changed.append(entry.message_id)
            elif not read and (action == "all" or entry.message_id in wanted):
                marks.read[entry.message_id] = None
                changed.append(entry.message_id)
        if action == "all":
            marks.read_up_to = self._seq
            marks.read.clear()
        for kept in (marks.read, marks.hidden):
            while len(kept) > MAX_MARKS:
                del kept[next(iter(kept))]
        unread = self._count_unread(user, channels)
        if changed:
            read_ids, deleted = ([], changed) if action == "delete" else (changed, [])
            self._announce(f"user:{user}", events.inbox_frame(read_ids, deleted, unread), None)
        return Marked(changed, unread)

    # Tasks

    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        known = self._idempotency.find(idempotency)
        if isinstance(known, Task):
            return known
        if self._tasks.find(task.id) is not None:
            raise Conflict(f"a task with the id {task.id} exists", field="id")
        return self._store(task, idempotency)

    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        known = self._idempotency.find(idempotency)
        if isinstance(known, Task):
            return known
        task = self._tasks.find(task_id)
        if task is None:
            raise NotFound(f"there is no task {task_id!r}", field="id")
        changed = change(task)
        return task if changed is task else self._store(changed, idempotency)

    def _store(self, task: Task, idempotency: Idempotency | None) -> Task:
        self._sweep_a_little(1 + len(task.to))
        self._tasks.keep(task)
        for channel in task.to:
            self._announce(channel, task.frame(), None, task.id)
        self._idempotency.keep(idempotency, task)
        return task

    async def task(self, task_id: str) -> Task | None:
        return self._tasks.find(task_id)

    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        return self._tasks.stalled(before_ms)

    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        return self._visible_tasks(user, channels)

    def _visible_tasks(self, user: str, channels: Sequence[str]) -> list[Task]:
        hidden = self._marks[user].hidden if user in self._marks else {}
        return [task for task in self._tasks.watched(channels) if f"t:{task.id}" not in hidden]

    async def dismiss_task(self, user: str, task_id: str) -> None:
        self._marks.setdefault(user, _Marks()).hidden[f"t:{task_id}"] = None

    # Users

    async def is_watched(self, topic: str) -> bool:
        return topic in self._subscribed

    async def disconnect(self, user: str) -> None:
        if self._sink is not None:
            self._sink.disconnect(f"user:{user}", "revoked")

    async def forget(self, user: str) -> None:
        # It takes a place in the order: every cursor from before gets a reset, also one that had seen all.
        self._seq += 1
        self._channels[f"user:{user}"] = _Channel(last=self._seq, low=self._seq, touched_s=time.time())
        self._tasks.forget(f"user:{user}")
        self._marks.pop(user, None)

    @property
    def skipped(self) -> int:
        return 0

    # Keeping it bounded

    def _sweep_a_little(self, kept: int) -> None:
        """For so many things that are kept now."""
        for _ in range(SWEEP_STEPS * kept):
            next(self._sweeping)

    def _sweep(self) -> Iterator[None]:
        """Removes what has expired, round and round, one thing a step."""
        while True:
            yield from self._tasks.sweep()
            for channel in list(self._channels):
                self._forget_old_channel(channel)
                yield
            yield

    def _forget_old_channel(self, channel: str) -> None:
        kept = self._channels.get(channel)
        if kept is not None and kept.touched_s + 10 * self._history_ttl_s < time.time():
            self._swept_up_to = max(self._swept_up_to, kept.last)
            del self._channels[channel]
