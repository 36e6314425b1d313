"""The broker: accepts events, gives ids and order, keeps history and state, carries events between processes.

`memory` serves one process, `redis` any number; one contract suite runs over both (tests/test_broker_contract.py).
Everything goes one way: `publish` stores and announces, the announcement comes back through `Sink.deliver`, also in the
process that published.

A *topic* is a broker's own name for a channel as one user's stream hears it (Redis: a pub/sub channel of the user's
shard). Whoever holds streams subscribes to topics and gets deliveries by topic.

Must not know: HTTP, streams.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self

from notifier.event import Cursor, Event
from notifier.task import Task

EPHEMERAL_PREFIX: Final = ":"
"""Before the key of an event that is not kept: it comes to a stream once. Ids of tasks never begin so."""
IDEMPOTENCY_TTL_S: Final = 300
MAX_INDEXED_TASKS: Final = 200
"""Newest tasks that one channel's index keeps."""
MAX_MARKS: Final = 4096
"""Read marks and deletions kept for one user; the oldest go first. A history of 256 on 16 channels fits."""
MAX_STALLED: Final = 1000
"""Silent tasks of one shard that are looked at in one go; more of them have to wait until the first are failed."""

TaskChange = Callable[[Task], Task]
"""A pure step from one state of a task to the next; may be called more than once when others change it as well."""

MarkAction = Literal["read", "all", "delete"]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A publisher's key, already made its own (two publishers may use the same word), and what it was used for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The broker's answer to a publish: stored and ordered, not yet seen by anyone."""

    epoch: str
    seq: int
    watched: bool

    @property
    def cursor(self) -> str:
        return f"{self.epoch}-{self.seq}"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a stream starts from, read in one step."""

    verdict: str
    """`new` (no cursor was given), `ok` (the replay is complete), or the reason for a reset."""
    cursor: Cursor
    """The place in the order from which live events go on."""
    replay: Sequence[tuple[int, bytes]]
    """Missed events as (seq, stored frame), in order, each once."""
    unread: int
    tasks: Sequence[Task]
    lasts: Mapping[str, int]
    """The newest seq of each topic."""
    revoked: str = ""
    """A word that is another one after each `disconnect` of the user. Empty: none lately. A stream that was opened with
    another word than it is opened again with was to be ended meanwhile."""

    @property
    def recovered(self) -> bool:
        """Whether nothing is missing since the cursor, or none was given."""
        return self.verdict in ("new", "ok")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a user's messages, newest first."""

    messages: Sequence[Mapping[str, Any]]
    more: bool
    unread: int
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Marked:
    """The ids that a mark changed, and how many unread are left."""

    changed: Sequence[str]
    unread: int


class Sink(Protocol):
    """Who takes deliveries: the hub. All calls are made on the event loop and return at once."""

    def deliver(self, topic: str, epoch: str, seq: int, key: str, wire: bytes) -> None:
        """An event, as it goes on the wire. Events of a topic come in order, without holes.

        `key` is not empty for an event that may come again under another seq: repeats of it are to be dropped.
        """

    def deliver_state(self, topic: str, key: str, wire: bytes) -> None:
        """A frame without id. With a key, a newer frame of the same key replaces it; but where the key begins with
        `EPHEMERAL_PREFIX`, it is an event, and repeats of it are to be dropped."""

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        """Something may have been missed on these topics (None: on all): every stream reads on from its cursor.

        A stream that is already past `after` cannot be repaired by that and must be reset.
        """

    def disconnect(self, topic: str, reason: str) -> None:
        """Ends all streams of a topic."""

    def degraded(self, away: bool) -> None:
        """The broker went away, or is back."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a backend is opened with, from the settings of the same names."""

    history_size: int
    history_ttl_s: int
    max_replay: int
    prefix: str
    shards: int


class Broker(ABC):
    """The contract. All calls may raise `BrokerUnavailable`."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, options: Options) -> Self:
        """A broker at this address, not yet connected. Raises ValueError or OSError if the address cannot be used."""

    @abstractmethod
    async def start(self, sink: Sink) -> None:
        """Connects; returns when events can be delivered, or raises."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def failed(self) -> None:
        """Returns never, or raises what ended the broker for an unknown reason: the process should end then."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether an event published now would be delivered."""

    @abstractmethod
    def topics(self, user: str, channels: Sequence[str]) -> tuple[str, ...]:
        """The topics on which this user's streams hear these channels."""

    @abstractmethod
    async def subscribe(self, topics: Sequence[str]) -> None:
        """Returns when every later event of these topics will be delivered."""

    @abstractmethod
    def unsubscribe(self, topics: Sequence[str]) -> None: ...

    @abstractmethod
    async def publish(self, event: Event, idempotency: Idempotency | None = None) -> Receipt:
        """Stores and announces an event: one step. Raises `IdempotencyMismatch`."""

    @abstractmethod
    async def open(self, user: str, channels: Sequence[str], cursor: Cursor | str | None) -> Opening:
        """What a stream of this user starts from. A cursor that could not be read is given as its text."""

    @abstractmethod
    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page: ...

    @abstractmethod
    async def unread(self, user: str, channels: Sequence[str]) -> int: ...

    @abstractmethod
    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        """Marks messages as read (these, or all), or deletes them for this user; other tabs are told."""

    @abstractmethod
    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        """Stores and announces a new task. Raises `Conflict` when the id is taken."""

    @abstractmethod
    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        """Takes a task one step further, atomically. Raises `NotFound`, and whatever `change` raises."""

    @abstractmethod
    async def task(self, task_id: str) -> Task | None: ...

    @abstractmethod
    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        """The ids of tasks whose producers give signs of life and gave none since then; those silent longest first,
        `MAX_STALLED` at most."""

    @abstractmethod
    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        """The tasks that these channels watch, newest first, without those the user dismissed."""

    @abstractmethod
    async def dismiss_task(self, user: str, task_id: str) -> None:
        """Hides a task from one user's snapshots."""

    @abstractmethod
    async def is_watched(self, topic: str) -> bool:
        """Whether any process holds a stream on this topic."""

    @abstractmethod
    async def disconnect(self, user: str) -> None:
        """Ends all streams of a user, in every process."""

    @abstractmethod
    async def forget(self, user: str) -> None:
        """Removes what is kept for a user alone: history, marks, the list of tasks. Cursors from before get a reset."""

    @property
    @abstractmethod
    def skipped(self) -> int:
        """Entries and announcements that were not in our form and went to nobody."""
