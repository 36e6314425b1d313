"""Presence on topics: this process' streams that others see, and what its streams see of others.

    enter, change, leave -> leases at the broker -> Sink.presence in every process -> look -> event `presence`

A lease is renewed while its stream is open. One of a process that was killed ends by itself, and every process looks
again when the first lease that it has seen would end. What a look brings is compared with the last one, so a lost
announcement costs time and no person. A channel whose shard is away waits alone. Must not know: HTTP, tokens, Redis.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notifier.broker import Broker
from notifier.connections import ConnectionIds, StreamsByTopic
from notifier.errors import BrokerUnavailable
from notifier.event import own_frame
from notifier.frames import EncodedFrame
from notifier.people import MAX_SHOWN, VIEWING, Lease, Person, by_user, change_between, everyone
from notifier.portions import all_ended
from notifier.stream import Stream

log = logging.getLogger("notifier.presence")

LEASE_S: Final = 30.0
RENEW_EVERY_S: Final = 10.0
GRACE_S: Final = 5.0
"""A stream that ends stays present for so long: its client may come back."""
LOOK_EVERY_S: Final = 0.5
"""A topic's changes are joined to one event in this time."""
TICK_S: Final = 0.1
"""Changes that come within this time are sent together."""
RETRY_S: Final = 1.0
CALLS_AT_ONCE: Final = 16
LOOK_AT_NUMBERS_EVERY_S: Final = 0.8
"""The same where streams get only the number of people: each change of it is an event to all streams."""
MANY: Final = 1000
"""Leases of a topic. With more of them, their reading is dear: the topic is looked at less often."""
LOOK_AT_MANY_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A stream's part in the presence of its user."""

    person: Person
    until: float
    """Unix time."""


@dataclass(slots=True)
class _View:
    """What the streams of this process know of a topic."""

    users: Mapping[str, Person] = field(default_factory=dict)
    looked_at: float = -math.inf
    look_at: float = math.inf
    """Monotonic time of the next look."""
    every_s: float = 0
    """Looks are at least so far apart."""


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
        self._members: dict[str, dict[Stream, _Seen]] = {}
        """The streams that others see, by channel."""
        self._unsent: dict[str, dict[str, tuple[Person, float]]] = {}
        """Leases that the broker does not have, by channel and connection: the person, and the monotonic time of the
        end. Without leases: only a change is to be announced."""
        self._retry_at: dict[str, float] = {}
        """Monotonic time at which a channel's unsent leases may be sent again, where the broker was away."""
        self._views: dict[str, _View] = {}
        self._newcomers: dict[str, dict[Stream, None]] = {}
        """Streams that know of no person yet, by channel."""
        self._renew_at = math.inf
        self._wake = asyncio.Event()

    # Streams of this process

    def enter(self, stream: Stream, channel: str, name: str | None, *, until: float) -> None:
        """Let others see the user of a stream on a channel until this Unix time, or the later one that is known; its
        state stays as it is."""
        members = self._members.setdefault(channel, {})
        known = members.get(stream)
        if known is None:
            self._newcomers.setdefault(channel, {})[stream] = None
            self.look(channel)
        person = Person(stream.user, name, known.person.state if known else VIEWING)
        self._change(channel, stream, _Seen(person, max(until, known.until) if known else until))
        self._renew_at = min(self._renew_at, time.monotonic() + RENEW_EVERY_S)

    def change(self, stream: Stream, states: Mapping[str, str]) -> None:
        """Set the state of a stream's user by channel. Where others do not see the stream, nothing changes."""
        for channel, state in states.items():
            seen = self._members.get(channel, {}).get(stream)
            if seen is not None:
                self._change(channel, stream, replace(seen, person=replace(seen.person, state=state)))

    def _change(self, channel: str, stream: Stream, seen: _Seen) -> None:
        if self._members[channel].get(stream) != seen:
            self._members[channel][stream] = seen
            self._send(channel, stream, seen, LEASE_S)

    def leave(self, stream: Stream, channels: Iterable[str], *, grace_s: float = 0) -> None:
        """Let others no longer see a stream on these channels, now or after a time."""
        for channel in channels:
            self._newcomers.get(channel, {}).pop(stream, None)
            members = self._members.get(channel, {})
            if (seen := members.pop(stream, None)) is not None:
                self._send(channel, stream, seen, grace_s)
                if not members:
                    del self._members[channel]

    def _send(self, channel: str, stream: Stream, seen: _Seen, ttl_s: float) -> None:
        connection = self._connections.of(stream)
        ends_at = time.monotonic() + min(ttl_s, seen.until - time.time())
        self._unsent.setdefault(channel, {})[connection] = (seen.person, ends_at)
        self._wake.set()

    # Changes in any process

    def look(self, channel: str) -> None:
        """See who is present on a channel, and tell the streams that hear it."""
        view = self._views.setdefault(channel, _View())
        view.look_at = min(view.look_at, max(time.monotonic(), view.looked_at + view.every_s))
        self._wake.set()

    async def run_forever(self) -> None:
        """Send leases and look, until cancelled. An exception must end the process."""
        while True:
            await self._until_due()
            await asyncio.sleep(TICK_S)
            self._renew()
            self._wake.clear()
            await self._send_leases()
            await self._look_due()

    async def _until_due(self) -> None:
        """Wait for a change, or for the next renewal, repeat of a call or look."""
        now = time.monotonic()
        repeats = (self._retry_at.get(channel, now) for channel in self._unsent)
        due_at = min(self._renew_at, *repeats, *(view.look_at for view in self._views.values()), math.inf)
        try:
            async with asyncio.timeout(None if math.isinf(due_at) else max(0, due_at - now)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _renew(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_EVERY_S if self._members else math.inf
        now = time.time()
        for channel, members in list(self._members.items()):
            for stream, seen in list(members.items()):
                if seen.until > now:
                    self._send(channel, stream, seen, LEASE_S)
                else:
                    self.leave(stream, [channel])

    async def _send_leases(self) -> None:
        now = time.monotonic()
        await _each(self._send_leases_of, [name for name in self._unsent if self._retry_at.get(name, now) <= now])

    async def _send_leases_of(self, channel: str) -> None:
        unsent, now = self._unsent.pop(channel), time.monotonic()
        leases = [Lease(connection, person, max(0, end - now)) for connection, (person, end) in unsent.items()]
        try:
            if not await self._broker.lease(channel, leases):
                self._retry_at.pop(channel, None)
                return
            unsent = {}
        except BrokerUnavailable as exc:
            log.debug("the leases on %s wait for the broker: %s", channel, exc)
        self._unsent[channel] = {**unsent, **self._unsent.get(channel, {})}
        self._retry_at[channel] = time.monotonic() + RETRY_S

    async def _look_due(self) -> None:
        now = time.monotonic()
        await _each(self._look, [channel for channel, view in self._views.items() if view.look_at <= now])

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
        except BrokerUnavailable as exc:
            log.debug("a look at %s waits for the broker: %s", channel, exc)
            view.look_at = began + RETRY_S
            return
        is_first, before = math.isinf(view.looked_at), view.users
        view.users, view.looked_at = by_user(people), began
        view.every_s = LOOK_AT_NUMBERS_EVERY_S if len(view.users) > MAX_SHOWN else LOOK_EVERY_S
        if len(people) > MANY:
            view.every_s = LOOK_AT_MANY_EVERY_S
        # What the streams of this process read before is not known: the first look says it all, also that it is empty.
        change = everyone(view.users) if is_first else change_between(before, view.users)
        if change is not None:
            for topic in topics:
                self._deliver(topic, "", _event(channel, change))
        self._welcome(channel, view)
        if people:
            ends_in = min(present.left_s for present in people) + TICK_S
            view.look_at = min(view.look_at, began + max(ends_in, view.every_s))
        elif change is not None:
            view.look_at = min(view.look_at, began + view.every_s)
        elif math.isinf(view.look_at):
            self._views.pop(channel, None)

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


async def _each(call: Callable[[str], Awaitable[None]], channels: Sequence[str]) -> None:
    """Call for each channel, for some at once. All of these have ended when the first error is raised."""
    for first in range(0, len(channels), CALLS_AT_ONCE):
        await all_ended(map(call, channels[first : first + CALLS_AT_ONCE]))


def _event(channel: str, change: Mapping[str, Any]) -> bytes:
    return own_frame("presence", {"topic": channel.removeprefix("topic:"), **change})
