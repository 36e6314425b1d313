"""Known defects to be put into the code: the simulation must find each of them, or its oracle is blind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from notifier import delivery
from notifier.broker.redis import primary
from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.identity import Identity
from notifier.broker.redis.subscriptions import Subscriptions
from notifier.errors import BrokerUnavailable
from notifier.frames import EncodedFrame
from notifier.hub import Hub
from notifier.opener import Opener
from notifier.slow import SlowReaders
from notifier.stream import Stream
from notifier.transport import TransportStream


def _receive_without_gap_check(
    self: Any, topic: Any, epoch: bytes, seq: int, prev: int, repeat_key: str, wire: bytes, excluded: Any, *_: Any
) -> None:
    topic.epoch, topic.last = epoch, seq
    self._sink.deliver(topic.name, epoch.decode(), seq, repeat_key, wire, excluded)


_resync = Hub.resync


def _resync_named_topics_only(self: Any, topics: Sequence[str] | None, *, after: int | None = None) -> None:
    if topics is not None:
        _resync(self, topics, after=after)


async def _open_before_subscribing(self: Any, stream: Any) -> None:
    attempt = self._begin(stream)
    try:
        stream.reading = True
        how = {"portion_bytes": self._portion_bytes, "continued": stream.continued}
        opening = await self._broker.open(stream.user, stream.channels, stream.cursor, **how)
        await self._broker.subscribe(stream.topics)
    except BrokerUnavailable:
        self._retry_later(stream, attempt)
        return
    if self._is_current(stream, attempt):
        self._proceed(stream, opening)


def _has_any_part(self: Any, parts: Any, seq: int) -> bool:
    return parts is not None and parts.first < seq


async def _accept_any_primary(self: Any, connection: Any) -> None:
    pass


def _flush_without_remainder(self: Any) -> None:
    data = b"".join([frame.chunk for frame in self._out])
    self._out.clear()
    if data and self.send is not None:
        with contextlib.suppress(OSError):
            self.send(data)
    elif data:
        self.write_remainder(data)


def _first_without_id(frame: EncodedFrame, asked: object) -> EncodedFrame:
    return frame


def _ignore_canary(self: Any, connection: Any, published: Any) -> None:
    _ = published.cancelled() or published.exception()


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _dropped(*_: Any) -> bool:
    return True


@dataclass(frozen=True)
class Defect:
    """What to replace (owner, name, defective value), and a seed that has shown it."""

    patches: tuple[tuple[Any, str, Any], ...]
    seen_at: int = 1


DEFECTS: dict[str, Defect] = {
    "announcements are delivered without the gap check": Defect(
        ((Topics, "_receive_event", _receive_without_gap_check),), 13
    ),
    "no resync after a lost link": Defect(((Hub, "resync", _resync_named_topics_only),), 9),
    "the log is read before subscribing": Defect(((Opener, "open", _open_before_subscribing),), 13),
    "the first event does not repeat the cursor": Defect(((delivery, "first", _first_without_id),), 2),
    "frames that arrive during an opening are dropped": Defect(((delivery, "hold", _dropped),)),
    "a repeat is recognised by its key alone": Defect(((Stream, "has_part", _has_any_part),)),
    "a moment as a replica goes unnoticed": Defect(
        ((primary, "_compare", _nothing), (primary, "_compare_stored", _nothing)), 26
    ),
    "another primary does not begin an epoch": Defect(((Identity, "__str__", lambda _: "same"),), 3),
    "calls and subscriptions may reach two servers": Defect(
        (
            (Subscriptions, "_require_same_primary", _accept_any_primary),
            (Subscriptions, "_canary_published", _ignore_canary),
            (Subscriptions, "reconnect", _nothing),
        ),
        11,
    ),
    "the rest of a partial write is dropped": Defect(((TransportStream, "flush", _flush_without_remainder),)),
    "a stream that was refused is not tried again": Defect(((Opener, "_retry_later", _nothing),), 9),
    "slow readers are not watched": Defect(((SlowReaders, "check", _nothing), (SlowReaders, "check_all", _nothing)), 3),
}


@contextlib.contextmanager
def with_defect(name: str) -> Iterator[None]:
    """The code has this defect until the end of the block."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, defect in DEFECTS[name].patches:
            stack.enter_context(mock.patch.object(owner, attribute, defect))
        yield
