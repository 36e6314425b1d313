"""The topics that streams hear by grants: added, removed, and left when the grant ends.

    hear -> among the hub's streams by topic -> subscribed -> compared with what the page shows -> left at the end

Must not know: tokens, HTTP, Redis.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from notifier.broker import Broker
from notifier.broker.values import Opening
from notifier.connections import StreamsByTopic, add, remove
from notifier.errors import Conflict, NotFound
from notifier.event import Cursor, parse_cursor
from notifier.frames import OPENING, EncodedFrame, topics_left
from notifier.presence import GRACE_S, Presence
from notifier.rules import is_topic
from notifier.stream import Stream

MAX_TOPICS: Final = 200
"""Topics that one stream may hear."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what one open stream hears."""

    connection: str
    """The id of the stream, from its `hello`."""
    add: Mapping[str, float]
    """Channels, with the Unix time at which the stream leaves each."""
    remove: Sequence[str]
    """Channels."""
    since: str | None
    """The cursor at which the page was rendered."""
    seen: Mapping[str, str | None] = field(default_factory=dict)
    """Those of the added channels on which others see the user, with the user's name."""
    states: Mapping[str, str] = field(default_factory=dict)
    """What the user does there, by channel."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a stream hears after a change."""

    topics: Sequence[str]
    """The names of all topics of the stream."""
    cursor: str
    """The end of the order after the added topics were subscribed."""
    stale: Sequence[str]
    """The added topics that have newer events than the page, or where that cannot be known."""


class Grants:
    """Keeps the hub's streams by topic up to date with the grants of streams."""

    def __init__(
        self,
        broker: Broker,
        streams_by_topic: StreamsByTopic,
        presence: Presence,
        *,
        attached: Container[Stream],
        reopen: Callable[[Stream], None],
        tell: Callable[[Stream, EncodedFrame], None],
    ) -> None:
        self._broker = broker
        self._streams_by_topic = streams_by_topic
        self._attached = attached
        self._reopen = reopen
        self._tell = tell
        self._presence = presence
        self._ends: dict[Stream, dict[str, float]] = {}
        """The Unix time at which a stream leaves a channel. Channels of its token are not among them."""
        self._due: dict[int, dict[Stream, None]] = {}
        """Streams by the seconds in which one of their grants ends."""
        self._joined: dict[Stream, dict[str, Cursor]] = {}
        """The end of the order when a stream joined a channel. What was published before is not replayed to it."""
        self._untold: dict[Stream, list[str]] = {}
        """Names of topics that a stream has left, before its client knows."""
        self._joining: dict[tuple[Stream, str], Change] = {}
        """The last of the changes under way that add a channel to a stream."""

    def hear(self, stream: Stream, ends: Mapping[str, float], seen: Mapping[str, str | None] | None = None) -> None:
        """Let a stream, also one that is not attached yet, hear these channels until the given Unix times, and let
        others see its user on those in `seen`."""
        self._hear(stream, ends)
        for channel, name in (seen or {}).items():
            if channel in stream.channels and (end := ends.get(channel, 0)) > time.time():
                self._presence.enter(stream, channel, name, until=end)

    def _hear(self, stream: Stream, ends: Mapping[str, float]) -> None:
        now = time.time()
        if expired := [channel for channel, end in ends.items() if end <= now]:
            self._untold.setdefault(stream, []).extend(map(_name, expired))
        added = []
        for channel, end in ends.items():
            if end <= now:
                continue
            if channel not in stream.channels:
                added.append(channel)
            elif channel not in self._ends.get(stream, ()):
                continue  # the stream's token has it
            self._end_at(stream, channel, end)
        if not added:
            return
        topics = self._broker.topics(stream.user, added)
        stream.channels += tuple(added)
        stream.topics += topics
        if stream in self._attached:
            # It lacks what was published to them before: it may have no part of an event. Each value is new.
            stream.since = max(stream.since + 1, OPENING)
            for topic in topics:
                add(self._streams_by_topic, topic, stream)
            self._reopen_if_opening(stream)

    def leave(self, stream: Stream, channels: Iterable[str]) -> None:
        """Let a stream no longer hear these topics."""
        leaving = {channel for channel in channels if is_topic(channel) and channel in stream.channels}
        if not leaving:
            return
        pairs = list(zip(stream.channels, stream.topics, strict=True))
        stream.channels = tuple(channel for channel, _ in pairs if channel not in leaving)
        stream.topics = tuple(topic for channel, topic in pairs if channel not in leaving)
        self._presence.leave(stream, leaving)
        positions = self._joined.get(stream, {})
        for channel in leaving:
            self._forget_end(stream, channel)
            if positions.pop(channel, None) is not None and not positions:
                del self._joined[stream]
        if stream in self._attached:
            left = [topic for channel, topic in pairs if channel in leaving]
            self._broker.unsubscribe(remove(self._streams_by_topic, stream, left))
            self._reopen_if_opening(stream)

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        for channel in list(self._ends.get(stream, ())):
            self._forget_end(stream, channel)
        self._untold.pop(stream, None)
        self._joined.pop(stream, None)
        self._presence.leave(stream, stream.channels, grace_s=GRACE_S)

    def joined(self, stream: Stream) -> Mapping[str, int] | None:
        """The seq after which a stream hears each channel that it has joined in the epoch of its cursor."""
        positions, cursor = self._joined.get(stream), stream.cursor
        if positions is None or not isinstance(cursor, Cursor):
            return None
        return {channel: place.seq for channel, place in positions.items() if place.epoch == cursor.epoch}

    async def change(self, stream: Stream, change: Change) -> Changed:
        """Change what an attached stream hears. Raises `Conflict`, `NotFound` if it ends meanwhile, and
        `BrokerUnavailable`."""
        if stream not in self._attached:
            raise NotFound("the connection has ended", field="connection")
        heard = {channel for channel in stream.channels if is_topic(channel)}.difference(change.remove)
        if len(heard.union(change.add)) > MAX_TOPICS:
            raise Conflict(f"the stream would hear more than {MAX_TOPICS} topics", field="add")
        self.leave(stream, change.remove)
        # Those of a change under way are not heard for certain: that may fail, and this may be its repeat.
        pending = {channel for channel in change.add if (stream, channel) in self._joining}
        before, heard_before = stream.since, frozenset(stream.channels) - pending
        self._joining.update(dict.fromkeys([(stream, channel) for channel in change.add], change))
        self.hear(stream, change.add, change.seen)
        self._presence.change(stream, change.states)
        joining = stream.since
        added = [channel for channel in change.add if channel in stream.channels]
        new = [channel for channel in added if channel not in heard_before]
        try:
            opening, stale = await self._compare(stream.user, added, change.since)
        except BaseException:
            # A client repeats a change without an answer: what the repeat has added stays, whichever ends first.
            failed = [channel for channel in new if self._joining.get((stream, channel)) is change]
            self.leave(stream, failed)
            if stream.since == joining and len(failed) == len(new):
                stream.since = before
            raise
        finally:
            for place in [(stream, channel) for channel in change.add]:
                if self._joining.get(place) is change:
                    del self._joining[place]
        cursor = opening.cursor
        if new and stream.since == joining:
            stream.since = cursor.seq
        if stream not in self._attached:
            raise NotFound("the connection has ended", field="connection")
        if new := [channel for channel in new if channel in stream.channels]:
            self._joined.setdefault(stream, {}).update(dict.fromkeys(new, cursor))
            for task in reversed(opening.tasks if added else ()):
                if not heard_before.intersection(task.to):
                    self._tell(stream, EncodedFrame(task.frame().encode()))
        return Changed([_name(channel) for channel in stream.channels if is_topic(channel)], str(cursor), stale)

    async def _compare(self, user: str, channels: Sequence[str], since: str | None) -> tuple[Opening, Sequence[str]]:
        """Subscribe. The end of the order then, and the names of the topics with events after `since`.

        The numbers of their newest events show it, without the events. A topic without any may have lost its events:
        only their opening tells.
        """
        now = await self._broker.open(user, channels or [f"user:{user}"], None, subscribe=True)
        if since is None or not channels:
            return now, ()
        asked = parse_cursor(since)
        if asked is None or asked.epoch != now.cursor.epoch or asked.seq > now.cursor.seq:
            return now, [_name(channel) for channel in channels]
        lasts = dict(zip(channels, now.lasts.values(), strict=True))
        stale = {channel for channel, last in lasts.items() if last > asked.seq}
        silent = [channel for channel, last in lasts.items() if last <= 0]
        if silent and not (await self._broker.open(user, silent, asked)).recovered:
            stale.update(silent)
        return now, [_name(channel) for channel in channels if channel in stale]

    def run_due(self) -> None:
        """Let streams leave the topics whose grants have ended; to be called every second."""
        now = time.time()
        for second in [second for second in self._due if second <= now]:
            for stream in self._due.pop(second):
                ended = [channel for channel, end in self._ends.get(stream, {}).items() if end <= now]
                self.leave(stream, ended)
                if ended:
                    self._untold.setdefault(stream, []).extend(map(_name, ended))
        for stream in [stream for stream in self._untold if stream.greeted]:
            self._tell(stream, topics_left(self.take_untold(stream)))

    def take_untold(self, stream: Stream) -> Sequence[str]:
        """The names of topics that the stream has left, which the caller tells its client."""
        return self._untold.pop(stream, ())

    def _end_at(self, stream: Stream, channel: str, end: float) -> None:
        """Let the stream leave the channel at this time, or at the later one that is known."""
        end = max(end, self._ends.get(stream, {}).get(channel, end))
        self._forget_end(stream, channel)
        self._ends.setdefault(stream, {})[channel] = end
        self._due.setdefault(math.ceil(end), {})[stream] = None

    def _forget_end(self, stream: Stream, channel: str) -> None:
        ends = self._ends.get(stream, {})
        end = ends.pop(channel, None)
        if end is None:
            return
        second = math.ceil(end)
        if second in self._due and second not in map(math.ceil, ends.values()):
            self._due[second].pop(stream, None)
            if not self._due[second]:
                del self._due[second]
        if not ends:
            del self._ends[stream]

    def _reopen_if_opening(self, stream: Stream) -> None:
        # The opening that is under way reads other channels than the stream has now.
        if stream.opening:
            self._reopen(stream)


def _name(channel: str) -> str:
    return channel.removeprefix("topic:")
