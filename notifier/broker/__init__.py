"""The broker: accepts events, assigns ids and order, keeps history and state, carries events between processes.

`memory` and `sqlite` serve one process, `redis` any number; one contract suite runs over all (tests/broker/).
There is one path: `publish` stores and announces, and the announcement returns through `Sink.deliver`, also in the
process that published.

A *topic* is a broker's name for a channel as the streams of one user receive it (Redis: a pub/sub channel of the user's
shard). The hub subscribes to topics and receives deliveries by topic.

Must not know: HTTP, streams.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from notifier.broker.afterwards import Afterwards
from notifier.broker.values import (
    FrameChange,
    Idempotency,
    MarkAction,
    Marked,
    Opening,
    Options,
    Page,
    Receipt,
    Submitted,
    TaskChange,
)
from notifier.errors import NotifierError
from notifier.event import Cursor, Event
from notifier.exclusion import Exclusion
from notifier.histogram import Histogram
from notifier.output import Appended, Output
from notifier.people import Lease, Present
from notifier.sampling import Sampling
from notifier.task import Task


class Sink(Protocol):
    """The receiver of deliveries: the hub. The broker calls it on the event loop; every call returns at once."""

    def joining(self) -> AbstractContextManager[None]:
        """Within it, deliveries that follow each other on one topic are written together. Nothing may be awaited."""

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
        """Deliver an event, encoded for the wire. The events of a topic come in order and without holes.

        `key`, if not empty, is a repeat key: the event may come again under another seq, and a stream that has it for
        certain drops the repeat.

        accepted_us: when its publish was accepted, in microseconds of Unix time by the publisher's clock; 0: unknown
        (see `Sampling`).
        """

    def deliver_state(
        self, topic: str, key: str, wire: bytes, excluded: Exclusion | None = None, accepted_us: int = 0
    ) -> None:
        """Deliver a frame without id. A key that begins with `EPHEMERAL_PREFIX` is a repeat key, as in `deliver`. Any
        other key names a state: a newer frame of that key replaces it, or is joined to it (`output.KEY_PREFIX`)."""

    def retract(self, topic: str, message_id: str) -> None:
        """A message is gone: the streams of the topic drop it, and get the number of unread messages without it."""

    def presence(self, channel: str) -> None:
        """Who is present on a channel of a topic has changed."""

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        """Reopen the streams of these topics (None: all) from their cursors: events may have been missed.

        `after` is the last seq before a hole. A stream that is already past it would not read the missed events from
        the log, so it is reset.
        """

    def disconnect(self, topic: str, reason: str, *, forgotten: bool = False) -> None:
        """End all streams of a topic with a `bye` that names `reason`. `forgotten`: their user was forgotten."""

    def control(self, text: bytes) -> None:
        """A text of `Broker.control`."""

    def degraded(self, away: bool, prefix: str = "") -> None:
        """The broker became unavailable (True) or available again (False), for the topics with this prefix."""


class Broker(ABC):
    """The contract of every backend. Every coroutine may raise `BrokerUnavailable`."""

    afterwards: Afterwards
    sampling: Sampling
    """Which publishes carry the time of their acceptance, and perhaps a trace."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, options: Options) -> Self:
        """A broker at this address, not yet connected. Raises ValueError or OSError if the address cannot be used."""

    @abstractmethod
    async def start(self, sink: Sink) -> None:
        """Connect. Returns after the first attempt: if it failed, the broker keeps trying and `ready` is False."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def failed(self) -> None:
        """Never returns. Raises the unexpected error that ended a background loop: the process should end then."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """True if an event published now would be delivered; with several shards: on any of them."""

    @property
    def shards_away(self) -> Sequence[int]:
        """The shards on which it would not be, of a broker with several."""
        return ()

    @property
    def shards(self) -> int:
        """Their number."""
        return 1

    def shard_of(self, user: str) -> int:
        """The shard that has what is stored for this user alone."""
        return 0

    @property
    def round_trips(self) -> Histogram | None:
        """How long the place where it stores takes to answer; None of a broker without one."""
        return None

    @abstractmethod
    def topics(self, user: str, channels: Sequence[str]) -> tuple[str, ...]:
        """The topics of these channels for this user's streams, in the same order."""

    @abstractmethod
    async def subscribe(self, topics: Sequence[str]) -> None:
        """Returns when the subscription is active: every later event of these topics is delivered."""

    @abstractmethod
    def unsubscribe(self, topics: Sequence[str]) -> None: ...

    async def publish(self, event: Event, idempotency: Idempotency | None = None) -> Receipt:
        """Store and announce an event: atomic for each shard and each 500 recipients. Raises `IdempotencyMismatch`."""
        receipt = self.submit(event, idempotency)
        return receipt if isinstance(receipt, Receipt) else await receipt

    @abstractmethod
    def submit(self, event: Event, idempotency: Idempotency | None = None) -> Receipt | Awaitable[Receipt]:
        """As `publish`. A broker that can answer at once returns the receipt, so that its caller needs no task."""

    def submit_all(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted]:
        """As `submit` of each, in order. A refused event is its error, and does not stop the others."""
        return [self._submitted(*event) for event in events]

    def _submitted(self, event: Event, idempotency: Idempotency | None) -> Submitted:
        try:
            return self.submit(event, idempotency)
        except NotifierError as exc:
            return exc

    @abstractmethod
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
        """Read what a stream of this user starts from. A cursor that could not be parsed is passed as its text.

        subscribe: subscribe to the channels' topics first, as `subscribe` does: every event after the opening's cursor
        is delivered.
        portion_bytes: most bytes of events in a portion of the replay (0: no bound). A larger event is a portion alone.
        continued: True if earlier portions of this replay were written. `max_replay` was checked for the first portion
        and is not checked again. Only the first and the last portion have `unread` and `tasks`.
        joined: the seq after which the stream hears each channel that it joined later; not what was published before.
        """

    @abstractmethod
    async def retract(self, message_id: str, channels: Sequence[str]) -> None:
        """Remove a message from the history and the inboxes of these channels; `Sink.retract` is called where a channel
        had it. A message that is not there changes nothing."""

    @abstractmethod
    async def correct(self, message_id: str, channels: Sequence[str], change: FrameChange) -> Sequence[str]:
        """Apply `change` to the stored frames of a message, in place, and announce each frame that it changes. Returns
        the frames, of the channels that have the message; an expired one counts as absent. Raises what `change` raises;
        some of many channels may be changed then, and a repeat changes the others."""

    @abstractmethod
    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        """One page of the user's messages, from the newest or from before the message with the id `before`."""

    @abstractmethod
    async def unread(self, user: str, channels: Sequence[str]) -> int: ...

    @abstractmethod
    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        """Mark messages as read (`read`: these, `all`: all) or delete them for this user (`delete`). The user's streams
        receive the change."""

    @abstractmethod
    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        """Store and announce a new task. Raises `Conflict` if its id is taken, and `IdempotencyMismatch`."""

    @abstractmethod
    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        """Apply `change` by compare-and-set. Raises `NotFound`, `IdempotencyMismatch` and what `change` raises."""

    @abstractmethod
    async def task(self, task_id: str) -> Task | None: ...

    @abstractmethod
    async def append_output(self, task_id: str, text: str, idempotency: Idempotency | None = None) -> Appended:
        """Store and announce the next piece of a task's output; the oldest pieces go where all together have more than
        `output_bytes`. Raises `NotFound`, `Conflict` when the task has ended, and `IdempotencyMismatch`."""

    @abstractmethod
    async def output(self, task_id: str, after: int) -> Output:
        """The stored pieces after the number `after`. Raises `NotFound`."""

    @abstractmethod
    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        """The ids of tasks whose last heartbeat, or the deadline of whose open question, is before `before_ms`, oldest
        first, at most `MAX_STALLED`. Tasks whose producers never sent a heartbeat are not among them."""

    @abstractmethod
    async def due_questions(self, before_ms: int) -> Sequence[str]:
        """The ids of tasks with an open question whose deadline is before `before_ms`, earliest first, at most
        `MAX_STALLED` of each shard. Heartbeats are not read: no number of them hides a deadline."""

    @abstractmethod
    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        """The tasks of these channels, last changed first, without those that the user dismissed; at most
        `MAX_LISTED_TASKS`."""

    @abstractmethod
    async def dismiss_task(self, user: str, task_id: str) -> None:
        """Hide a task from one user's snapshots."""

    @abstractmethod
    async def watched(self, topics: Sequence[str]) -> Collection[str]:
        """Those of these topics on which any process has a stream."""

    async def is_watched(self, topic: str) -> bool:
        """True if any process has a stream on this topic."""
        return topic in await self.watched([topic])

    @abstractmethod
    def topics_of(self, channel: str) -> Sequence[str]:
        """All topics of a channel."""

    def order_of(self, topic: str) -> str:
        """What the topics with one order of events have in common: topics of different orders have no stream in
        common."""
        return ""

    @abstractmethod
    async def lease(self, channel: str, leases: Sequence[Lease]) -> bool:
        """Begin, renew or end leases of people on a channel. `Sink.presence` is called, in every process with a stream
        on the channel, where others see a change or are to look earlier; not where a lease ends by itself. True if some
        processes could not be told of a change of this channel: call again, also without leases."""

    @abstractmethod
    async def people(self, channel: str) -> Sequence[Present]:
        """The leases on a channel that have not ended."""

    @abstractmethod
    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        """Note when these users were last seen: Unix times in ms, kept for as long as messages. The last call
        counts, and the time `FORGOTTEN` removes what is stored. Returns the users whose time is not stored, since the
        broker, or a part of it, is away."""

    @abstractmethod
    async def last_seen(self, users: Sequence[str]) -> Mapping[str, int]:
        """When these users were last seen, of those whose time is known."""

    async def control(self, topic: str, text: str) -> int:
        """Pass a line of text to the sinks of all processes that subscribe to a topic. Returns their number; 0 of a
        broker of one process."""
        return 0

    @abstractmethod
    async def disconnect(self, user: str, *, forgotten: bool = False) -> None:
        """End all streams of a user, in every process. `forgotten`: after `forget`."""

    @abstractmethod
    async def forget(self, user: str) -> None:
        """Remove what is stored for this user alone: history, marks, tasks. The user is no longer a recipient of the
        tasks that have others. The user's earlier cursors get a reset."""

    @property
    @abstractmethod
    def skipped(self) -> int:
        """Stored entries, announcements and keys so far that were not in notifier's form and were not used."""
