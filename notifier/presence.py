"""Presence on topics: this process' streams that others see, and what its streams see of others.

    enter, change, leave -> leases at the broker -> Sink.presence in every process -> look -> event `presence`

A lease is renewed while its stream is open. One of a process that was killed ends by itself, and every process looks
again when the first lease that it has seen would end. What a look brings is compared with the last one, so a lost
announcement costs time and no person. Must not know: HTTP, tokens, Redis.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notifier.broker import Broker
from notifier.connections import ConnectionIds, StreamsByTopic
from notifier.errors import BrokerUnavailable
from notifier.event import own_frame
from notifier.frames import EncodedFrame
from notifier.people import VIEWING, Lease, Person, by_user, change_between, everyone
from notifier.stream import Stream

log = logging.getLogger("notifier.presence")

LEASE_S: Final = 30.0
RENEW_EVERY_S: Final = 10.0
GRACE_S: Final = 5.0
"""A stream that ends stays present for so long: its client may come back."""
LOOK_EVERY_S: Final = 0.5
"""A topic's changes are joined to one event in this time."""
TICK_S: Final = 0.1
RETRY_S: Final = 1.0
LOOKS_AT_ONCE: Final = 16


@dataclass(slots=True)
class _View:
    """What the streams of this process know of a topic."""

    users: Mapping[str, Person] = field(default_factory=dict)
    looked_at: float = -math.inf
    look_at: float = math.inf
    """Monotonic time of the next look."""


class Presence:
    """Keeps the leases of one process, and tells its streams of changes. `deliver` is `Sink.deliver_state`; `tell`
    writes a frame to one stream."""

    def __init__(
        self,
        broker: Broker,
        streams_by_topic: StreamsByTopic,
        connections: ConnectionIds,
        *,
        deliver: Callable[[str, str, bytes], None],
        tell: Callable[[Stream, EncodedFrame], None],
    ) -> None:
        self._broker = broker
        self._streams_by_topic = streams_by_topic
        self._connections = connections
        self._deliver = deliver
        self._tell = tell
        self._members: dict[str, dict[Stream, Person]] = {}
        """The streams that others see, by channel."""
        self._unsent: dict[str, dict[str, Lease]] = {}
        """Leases that the broker does not have, by channel and connection."""
        self._views: dict[str, _View] = {}
        self._newcomers: dict[str, dict[Stream, None]] = {}
        """Streams that know of no person yet, by channel."""
        self._renew_at = math.inf
        self._retry_at = -math.inf
        self._wake = asyncio.Event()

    # Streams of this process

    def enter(self, stream: Stream, channel: str, name: str | None) -> None:
        """Let others see the user of a stream on a channel; its state stays as it is."""
        members = self._members.setdefault(channel, {})
        known = members.get(stream)
        if known is None:
            self._newcomers.setdefault(channel, {})[stream] = None
            self.look(channel)
        self._change(channel, stream, Person(stream.user, name, known.state if known else VIEWING))
        self._renew_at = min(self._renew_at, time.monotonic() + RENEW_EVERY_S)

    def change(self, stream: Stream, states: Mapping[str, str]) -> None:
        """Set the state of a stream's user by channel. Where others do not see the stream, nothing changes."""
        for channel, state in states.items():
            person = self._members.get(channel, {}).get(stream)
            if person is not None:
                self._change(channel, stream, replace(person, state=state))

    def _change(self, channel: str, stream: Stream, person: Person) -> None:
        if self._members[channel].get(stream) != person:
            self._members[channel][stream] = person
            self._send(channel, stream, person, LEASE_S)

    def leave(self, stream: Stream, channels: Iterable[str], *, grace_s: float = 0) -> None:
        """Let others no longer see a stream on these channels, now or after a time."""
        for channel in channels:
            self._newcomers.get(channel, {}).pop(stream, None)
            members = self._members.get(channel, {})
            if (person := members.pop(stream, None)) is not None:
                self._send(channel, stream, person, grace_s)
                if not members:
                    del self._members[channel]

    def _send(self, channel: str, stream: Stream, person: Person, ttl_s: float) -> None:
        connection = self._connections.of(stream)
        self._unsent.setdefault(channel, {})[connection] = Lease(connection, person, ttl_s)
        self._wake.set()

    # Changes in any process

    def look(self, channel: str) -> None:
        """See who is present on a channel, and tell the streams that hear it."""
        view = self._views.setdefault(channel, _View())
        view.look_at = min(view.look_at, max(time.monotonic(), view.looked_at + LOOK_EVERY_S))
        self._wake.set()

    async def run_forever(self) -> None:
        """Send leases and look, until cancelled. An exception must end the process."""
        while True:
            await self._wake.wait()
            self._renew()
            if time.monotonic() >= self._retry_at:
                try:
                    await self._send_leases()
                    await self._look_due()
                except BrokerUnavailable as exc:
                    log.info("presence waits for the broker: %s", exc)
                    self._retry_at = time.monotonic() + RETRY_S
            if not (self._members or self._unsent or self._views):
                self._wake.clear()
            await asyncio.sleep(TICK_S)

    def _renew(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_EVERY_S if self._members else math.inf
        for channel, members in self._members.items():
            for stream, person in members.items():
                self._send(channel, stream, person, LEASE_S)

    async def _send_leases(self) -> None:
        for channel in list(self._unsent):
            leases = self._unsent.pop(channel)
            try:
                await self._broker.lease(channel, list(leases.values()))
            except BrokerUnavailable:
                self._unsent[channel] = {**leases, **self._unsent.get(channel, {})}
                raise

    async def _look_due(self) -> None:
        now = time.monotonic()
        due = [channel for channel, view in self._views.items() if view.look_at <= now]
        for first in range(0, len(due), LOOKS_AT_ONCE):
            await asyncio.gather(*(self._look(channel) for channel in due[first : first + LOOKS_AT_ONCE]))

    async def _look(self, channel: str) -> None:
        topics = [topic for topic in self._broker.topics_of(channel) if topic in self._streams_by_topic]
        if not topics:
            self._views.pop(channel, None)
            self._newcomers.pop(channel, None)
            return
        view = self._views[channel]
        began, view.look_at = time.monotonic(), math.inf
        try:
            people = await self._broker.people(channel)
        except BrokerUnavailable:
            view.look_at = began
            raise
        before, view.users, view.looked_at = view.users, by_user(people), began
        if (change := change_between(before, view.users)) is not None:
            for topic in topics:
                self._deliver(topic, "", _event(channel, change))
        self._welcome(channel, view)
        if people:
            view.look_at = min(view.look_at, began + min(present.left_s for present in people) + TICK_S)
        elif math.isinf(view.look_at):
            del self._views[channel]

    def _welcome(self, channel: str, view: _View) -> None:
        """Tell the streams that know of no person yet."""
        newcomers = self._newcomers.pop(channel, {})
        if not newcomers:
            return
        frame = EncodedFrame(_event(channel, everyone(view.users)))
        for stream in newcomers:
            if stream.greeted:
                self._tell(stream, frame)
        members = self._members.get(channel, {})
        if late := [stream for stream in newcomers if not stream.greeted and stream in members]:
            self._newcomers.setdefault(channel, {}).update(dict.fromkeys(late))
            self.look(channel)


def _event(channel: str, change: Mapping[str, Any]) -> bytes:
    return own_frame("presence", {"topic": channel.removeprefix("topic:"), **change})
