"""The embedded broker: one process, no Redis. Same ids, history, snapshot, reset and inbox.

Everything is in the memory of this process; a journal receives each change. No method awaits between its last look at
the data and its writes, so each call is atomic. Must not know: HTTP, streams, whether and where changes are stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import nullcontext

from notifier import event as events
from notifier.broker import Broker, Sink
from notifier.broker.embedded.afterwards import MemoryAfterwards
from notifier.broker.embedded.history import MemoryHistory
from notifier.broker.embedded.idempotency import IdempotencyStore
from notifier.broker.embedded.inbox import MemoryInbox
from notifier.broker.embedded.journal import Journal, Start
from notifier.broker.embedded.log import entry_of, portion
from notifier.broker.embedded.marks import UserMarks
from notifier.broker.embedded.missed import missed_by
from notifier.broker.embedded.outputs import MemoryOutputs
from notifier.broker.embedded.people import LastTimes, MemoryPeople
from notifier.broker.embedded.sweep import Sweep
from notifier.broker.embedded.tasks import MemoryTasks
from notifier.broker.values import (
    EPHEMERAL_PREFIX,
    FORGOTTEN,
    MAX_FRAME_MARKS,
    MAX_LISTED_TASKS,
    FrameChange,
    History,
    Idempotency,
    MarkAction,
    Marked,
    Opening,
    Page,
    Receipt,
    Submitted,
    TaskChange,
)
from notifier.errors import Conflict, no_task
from notifier.event import Cursor, Event
from notifier.exclusion import Exclusion
from notifier.output import Appended, Output, piece_frame, state_key
from notifier.people import Lease, Present
from notifier.sampling import Sampling
from notifier.task import Task


class EmbeddedBroker(Broker):
    """All of the contract but `from_url`, over the memory of this process."""

    def __init__(
        self, *, history: History, max_replay: int, output_bytes: int, journal: Journal, start: Start | None = None
    ) -> None:
        start = start or Start(events.new_epoch())
        self._max_replay = max_replay
        self._journal = journal
        self._epoch = start.epoch
        self._seq = start.seq
        self._history = MemoryHistory(history, journal, start.swept_up_to, start.topics_up_to)
        self._outputs = MemoryOutputs(journal, output_bytes)
        self._tasks = MemoryTasks(journal, self._outputs)
        self._marks: dict[str, UserMarks] = {}
        self._inbox = MemoryInbox(self._history, self._marks, journal)
        self._people = MemoryPeople()
        self._seen = LastTimes()
        self.afterwards = MemoryAfterwards(self._history, self._marks, journal, lambda: Cursor(self._epoch, self._seq))
        self._idempotency = IdempotencyStore(journal)
        self._subscribed: set[str] = set()
        self.sampling = Sampling()
        shortest_s = min(history.ttl_s, history.topic_ttl_s)
        self._sweep = Sweep(self._tasks.sweep, self._history.sweep, shortest_s=shortest_s)
        self._sink: Sink | None = None

    # Lifecycle and topics

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

    def topics_of(self, channel: str) -> Sequence[str]:
        return (channel,)

    async def lease(self, channel: str, leases: Sequence[Lease]) -> bool:
        if self._people.put(channel, leases) and self._sink is not None:
            self._sink.presence(channel)
        return False

    async def people(self, channel: str) -> Sequence[Present]:
        return self._people.of(channel)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self._subscribed.update(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._subscribed.difference_update(topics)

    # Events

    def submit(self, event: Event, idempotency: Idempotency | None = None) -> Receipt | Awaitable[Receipt]:
        if idempotency is not None and isinstance(earlier := self._idempotency.find(idempotency), Receipt):
            return earlier
        self._sweep.after(len(event.to))
        accepted_us = self.sampling.accepted_us()
        if event.durable:
            self._seq += 1
            key = event.message_key if event.may_repeat else ""
        else:
            key = EPHEMERAL_PREFIX + events.new_id() if len(event.to) > 1 else ""
        for channel in event.to:
            replaces = self._replaced(channel, event) if event.replace_key else ""
            frame = event.frame_for(channel, replaces)
            if event.durable:
                self._history.append(channel, entry_of(event, self._seq, frame, key))
            self._announce(channel, frame, self._seq if event.durable else 0, key, event.excluded, accepted_us)
        receipt = Receipt(self._epoch, self._seq, not self._subscribed.isdisjoint(event.to))
        if idempotency is not None:
            self._idempotency.add(idempotency, receipt)
        return receipt

    def _replaced(self, channel: str, event: Event) -> str:
        """The id of the message that one with a key replaces, and which is removed; empty if there is none."""
        replaced = self._history.remove(channel, lambda entry: entry.replace_key == event.replace_key, "replaced")
        return next((entry.message_id for entry in replaced if entry.message_id != event.message_id), "")

    async def retract(self, message_id: str, channels: Sequence[str]) -> None:
        for channel in channels:
            removed = self._history.remove(channel, lambda entry: entry.message_id == message_id, "retracted")
            if removed and self._sink is not None and channel in self._subscribed:
                self._sink.retract(channel, message_id)

    async def correct(self, message_id: str, channels: Sequence[str], change: FrameChange) -> Sequence[str]:
        now_ms = time.time() * 1000
        stored = [
            (channel, entry, change(entry.frame))
            for channel in channels
            for entry in self._history.log(channel).messages
            if entry.message_id == message_id and not 0 < entry.expires_at_ms <= now_ms
        ]
        key = EPHEMERAL_PREFIX + events.new_id()
        for channel, entry, frame in stored:
            if frame != entry.frame:
                self._history.change(channel, entry, frame)
                self._announce(channel, frame, key=key, excluded=Exclusion(entry.excluded))
        return [frame for _, _, frame in stored]

    def submit_all(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted]:
        with self._sink.joining() if self._sink is not None else nullcontext():
            return super().submit_all(events)

    def _announce(
        self, channel: str, frame: str, seq: int = 0, key: str = "", excluded: Exclusion | None = None, at_us: int = 0
    ) -> None:
        """Deliver a frame to the channel's streams; without `seq` as a state."""
        if self._sink is None or channel not in self._subscribed:
            return
        if seq:
            wire = f"id: {self._epoch}-{seq}\n{frame}".encode()
            self._sink.deliver(channel, self._epoch, seq, key, wire, excluded, at_us)
        else:
            self._sink.deliver_state(channel, key, frame.encode(), excluded, at_us)

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
        if subscribe:
            self._subscribed.update(self.topics(user, channels))
        verdict, missed = missed_by(
            self._history,
            user,
            channels,
            cursor,
            Cursor(self._epoch, self._seq),
            most=None if continued else self._max_replay,
            joined=joined or {},
        )
        replay = list(portion([entry for entry, _ in missed], portion_bytes))
        more = len(replay) < len(missed)
        has_state = not more or not continued
        return Opening(
            verdict=verdict,
            cursor=Cursor(self._epoch, replay[-1][0] if more else self._seq),
            replay=replay,
            unread=self._inbox.count_unread(user, channels, self._seq) if has_state else 0,
            tasks=self._visible_tasks(user, channels) if has_state else (),
            lasts={channel: self._history.log(channel).last for channel in channels},
            more=more,
            missed=len(missed),
            keys={entry.seq: (entry.key, channel) for entry, channel in missed[: len(replay)] if entry.key},
        )

    # The inbox

    async def unread(self, user: str, channels: Sequence[str]) -> int:
        return await self._inbox.unread(user, channels, self._seq)

    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        cursor = Cursor(self._epoch, self._seq)
        return await self._inbox.page(user, channels, cursor, limit=limit, before=before, unread_only=unread_only)

    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        marked, top = None, 0
        while marked is None:
            top = self._seq
            marked = await self._inbox.changes(user, channels, action, ids, top)
        unread = marked.unread + self._inbox.count_newer(user, channels, top, self._seq)
        for first in range(0, len(marked.changed), MAX_FRAME_MARKS):
            part = marked.changed[first : first + MAX_FRAME_MARKS]
            read_ids, deleted = ([], part) if action == "delete" else (part, [])
            self._announce(f"user:{user}", events.inbox_frame(read_ids, deleted, unread))
        return Marked(marked.changed, unread)

    # Tasks

    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        earlier = self._idempotency.find(idempotency)
        if isinstance(earlier, Task):
            return earlier
        if self._tasks.find(task.id) is not None:
            raise Conflict(f"a task with the id {task.id} exists", field="id")
        return self._store(task, idempotency)

    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        earlier = self._idempotency.find(idempotency)
        if isinstance(earlier, Task):
            return earlier
        task = self._known(task_id)
        return task if (changed := change(task)) is task else self._store(changed, idempotency)

    def _store(self, task: Task, idempotency: Idempotency | None) -> Task:
        self._sweep.after(1 + len(task.to))
        self._tasks.put(task)
        frame = task.frame()
        for channel in task.to:
            self._announce(channel, frame, key=task.id)
        self._idempotency.add(idempotency, task)
        return task

    async def task(self, task_id: str) -> Task | None:
        return self._tasks.find(task_id)

    def _known(self, task_id: str) -> Task:
        task = self._tasks.find(task_id)
        if task is None:
            raise no_task(task_id)
        return task

    async def append_output(self, task_id: str, text: str, idempotency: Idempotency | None = None) -> Appended:
        earlier = self._idempotency.find(idempotency)
        if isinstance(earlier, Appended):
            return earlier
        self._sweep.after(1)
        task = self._tasks.append_output(self._known(task_id), text)
        frame = piece_frame(task_id, task.output_n, text)
        for channel in task.to:
            self._announce(channel, frame, key=state_key(task_id))
        appended = Appended(task.output_n, task.output_chars, task.cancel_requested)
        self._idempotency.add(idempotency, appended)
        return appended

    async def output(self, task_id: str, after: int) -> Output:
        self._known(task_id)
        return self._outputs.after(task_id, after)

    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        return self._tasks.stalled(before_ms)

    async def due_questions(self, before_ms: int) -> Sequence[str]:
        return self._tasks.due_questions(before_ms)

    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        return self._visible_tasks(user, channels)[:MAX_LISTED_TASKS]

    def _visible_tasks(self, user: str, channels: Sequence[str]) -> list[Task]:
        hidden = self._marks[user].hidden if user in self._marks else {}
        return [task for task in self._tasks.of(channels) if f"t:{task.id}" not in hidden]

    async def dismiss_task(self, user: str, task_id: str) -> None:
        evicted = self._marks.setdefault(user, UserMarks()).add("delete", [f"t:{task_id}"], 0)
        self._journal.mark(user, "delete", [f"t:{task_id}"], 0, evicted)

    # Users

    async def watched(self, topics: Sequence[str]) -> Collection[str]:
        return self._subscribed.intersection(topics)

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        self._seen.put(users)
        return ()

    async def last_seen(self, users: Sequence[str]) -> Mapping[str, int]:
        return self._seen.of(users)

    async def disconnect(self, user: str, *, forgotten: bool = False) -> None:
        if self._sink is not None:
            self._sink.disconnect(f"user:{user}", "revoked", forgotten=forgotten)

    async def forget(self, user: str) -> None:
        # Takes a seq, so that every earlier cursor is reset, also the newest possible one.
        self._seq += 1
        self._history.clear(f"user:{user}", self._seq)
        self._tasks.forget(f"user:{user}")
        self._seen.put({user: FORGOTTEN})
        await self.afterwards.note({user: {}}, ttl_s=0)
        if self._marks.pop(user, None) is not None:
            self._journal.remove_marks(user)

    @property
    def skipped(self) -> int:
        return 0
