"""What the tests of brokers share: a sink that records its calls, and short forms of publish, open and list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from notifier import event as events
from notifier import task as tasks
from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.event import Cursor
from notifier.exclusion import Exclusion
from notifier.message import message_event, message_of

HISTORY = 5
"""The history size of the brokers under test."""
OUTPUT_BYTES = 1000
"""The bytes of output that they keep for each task."""
ANN = ("user:ann", "group:staff", "all")
"""The channels of the user ann."""


@dataclass
class Recorder:
    """A sink that records its calls."""

    events: list[tuple[str, int, bytes]] = field(default_factory=list)
    states: list[tuple[str, str, bytes]] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    """How many events came within each `joining`."""
    resyncs: list[tuple[Sequence[str] | None, int | None]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)
    accepted_us: list[int] = field(default_factory=list)
    """Those of events."""
    excluded: list[Exclusion | None] = field(default_factory=list)
    """Those of events and states, in the order of arrival."""
    changed_on: list[str] = field(default_factory=list)
    """The channels of calls of `presence`."""
    retracted: list[tuple[str, str]] = field(default_factory=list)
    away: list[bool] = field(default_factory=list)
    away_prefixes: list[str] = field(default_factory=list)
    """Those of `away`."""

    @contextmanager
    def joining(self) -> Iterator[None]:
        before = len(self.events)
        yield
        self.joined.append(len(self.events) - before)

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
        assert wire.startswith(f"id: {epoch}-{seq}\n".encode())
        self.events.append((topic, seq, wire))
        self.accepted_us.append(accepted_us)
        self.excluded.append(excluded)

    def deliver_state(
        self, topic: str, key: str, wire: bytes, excluded: Exclusion | None = None, accepted_us: int = 0
    ) -> None:
        self.states.append((topic, key, wire))
        self.excluded.append(excluded)

    def presence(self, channel: str) -> None:
        self.changed_on.append(channel)

    def retract(self, topic: str, message_id: str) -> None:
        self.retracted.append((topic, message_id))

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        self.resyncs.append((topics, after))

    def disconnect(self, topic: str, reason: str, *, forgotten: bool = False) -> None:
        self.ended.append((topic, "forgotten" if forgotten else reason))

    def control(self, text: bytes) -> None:
        self.controls.append(text)

    def degraded(self, away: bool, prefix: str = "") -> None:
        self.away.append(away)
        self.away_prefixes.append(prefix)


async def until(condition: Callable[[], Any], timeout_s: float = 5) -> None:
    """Wait for a condition that this event loop makes true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        await asyncio.sleep(0.005)


def note(to: str | list[str] = "user:ann", subject: str = "Hi", **more: Any) -> events.Event:
    """A message."""
    options = {name: more.pop(name) for name in ("may_repeat", "max_bytes", "excluded") if name in more}
    return message_event({"to": [to] if isinstance(to, str) else to, "subject": subject, **more}, **options)


async def opened(broker: Broker, cursor: Cursor | str | None = None, user: str = "ann") -> Opening:
    """The opening of a stream that listens to the user, to the group staff and to `all`."""
    return await broker.open(user, (f"user:{user}", "group:staff", "all"), cursor)


def subjects(opening: Opening) -> list[str]:
    """The subjects of the replayed messages."""
    messages = [message_of(frame) for _, frame in opening.replay]
    return [message["subject"] for message in messages if message is not None]


async def listed(broker: Broker, user: str = "ann", **options: Any) -> list[tuple[str, bool]]:
    """A page of the inbox as (subject, is it read)."""
    options = {"limit": 50, "before": None, "unread_only": False, **options}
    page = await broker.inbox(user, (f"user:{user}", "group:staff", "all"), **options)
    return [(message["subject"], message["read"]) for message in page.messages]


def new_task(to: str | list[str] = "user:ann", **more: Any) -> tasks.Task:
    to = [to] if isinstance(to, str) else to
    return tasks.begin(to=to, name="Import", now_ms=int(time.time() * 1000), **more)


def step(**change: Any) -> Callable[[tasks.Task], tasks.Task]:
    """A change for `Broker.change_task`."""
    return lambda task: task.changed(change, now_ms=int(time.time() * 1000))
