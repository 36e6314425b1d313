"""What goes into a broker and comes out of it: values, and their bounds.

Must not know: brokers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from notifier.errors import NotifierError
from notifier.event import Cursor
from notifier.output import KEPT_BYTES
from notifier.rules import is_topic
from notifier.task import Task

EPHEMERAL_PREFIX: Final = ":"
"""First character of the repeat key of an event that is not stored. Task ids never begin with it."""
IDEMPOTENCY_TTL_S: Final = 300
MAX_LISTED_TASKS: Final = 200
"""Most tasks that `tasks` returns: the last changed of all channels."""
MAX_MARKS: Final = 4096
"""Read marks and deletions kept for one user; the oldest are removed first. A history of 256 on 16 channels fits."""
MAX_FRAME_MARKS: Final = 500
"""Ids in one `inbox` frame; a change of more is announced in several. Ids have at most 64 characters, so that such a
frame stays far below `event.MAX_FRAME_BYTES`."""
MAX_STALLED: Final = 1000
"""Most ids that one `stalled_tasks` or `due_questions` call returns for each shard; the next call returns more once
these have failed or are answered."""

TaskChange = Callable[[Task], Task]
"""A pure function from one state of a task to the next. Called again if another publisher changed the task first."""

FrameChange = Callable[[str], str]
"""A pure function from the stored frame of a message to the corrected one."""

MarkAction = Literal["read", "all", "delete"]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An idempotency key and the digest of the body that it was sent with."""

    key: str
    """Prefixed by its publisher: two publishers may choose the same key."""
    fingerprint: str


@dataclass(slots=True)
class Receipt:
    """The broker's answer to a publish: the event is stored and ordered, but not yet delivered. Nothing changes it."""

    epoch: str
    seq: int
    watched: bool
    """True if any stream, in any process, listens to one of the recipients."""

    @property
    def cursor(self) -> str:
        return f"{self.epoch}-{self.seq}"


FORGOTTEN: Final = 0
"""In place of the time at which a user was last seen: removes it."""


@dataclass(slots=True, eq=False)
class Opening:
    """What a stream starts from, read in one atomic step."""

    verdict: str
    """`new` (no cursor was given), `ok` (the replay is complete), or the reason for a reset."""
    cursor: Cursor
    """The newest event of the shard: live events follow it. With `more`, the place that the replay reaches."""
    replay: Sequence[tuple[int, bytes]]
    """Missed events as (seq, stored frame), in order, without repeats: all, or with `more` a portion of them."""
    unread: int
    tasks: Sequence[Task]
    lasts: Mapping[str, int]
    """The newest seq of each topic."""
    revoked: str = ""
    """Random token, replaced at every `disconnect`; empty if none in 7 days. If it changed since the stream first
    opened, end the stream."""
    revoked_ago_s: float | None = None
    """Seconds since the token was replaced; None if there is none."""
    forgotten: bool = False
    """True if that `disconnect` was of a user who was forgotten."""
    more: bool = False
    """True if the replay is a portion: the next one is the opening from `cursor`."""
    missed: int = 0
    """The number of missed events of which `replay` is the first portion."""
    keys: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Repeat key and topic of those events of `replay`, by seq, of which other parts may come: see `Sink.deliver`."""

    @property
    def recovered(self) -> bool:
        """True if nothing is missing since the cursor, or no cursor was given."""
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
    """The ids that a mark changed, and the number of messages still unread."""

    changed: Sequence[str]
    unread: int


@dataclass(frozen=True, slots=True)
class History:
    """The bounds of each channel's history."""

    size: int
    """Messages."""
    event_size: int
    """Durable events that are no messages: they take no message's place."""
    ttl_s: int
    """How long it is stored after the newest."""
    topic_size: int = 32
    """Messages of a topic, and durable events of a topic."""
    topic_ttl_s: int = 900
    """`ttl_s` of a topic. Nothing of a topic stays longer."""

    def size_of(self, channel: str, *, is_message: bool) -> int:
        """The most entries of one of the channel's two logs."""
        if is_topic(channel):
            return self.topic_size
        return self.size if is_message else self.event_size

    def ttl_of(self, channel: str) -> int:
        return self.topic_ttl_s if is_topic(channel) else self.ttl_s


@dataclass(frozen=True, slots=True)
class Options:
    """What a backend is opened with, from the settings of the same names."""

    history: History
    max_replay: int
    prefix: str
    shards: int
    sqlite_synchronous: Literal["full", "normal"] = "full"
    output_bytes: int = KEPT_BYTES
    redis_wait_replicas: int = 0
    """How many replicas must have a write before it is answered; 0: none is waited for."""


Submitted = Receipt | Awaitable[Receipt] | NotifierError
