"""Frames ready to send, and the service's own events on a stream: hello, reset, degraded, ping, bye.

Must not know: HTTP requests, which streams exist.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from notifier.broker.values import EPHEMERAL_PREFIX, Opening
from notifier.event import PING, Cursor, own_frame
from notifier.exclusion import Exclusion
from notifier.output import KEY_PREFIX, Pieces, joined
from notifier.repeats import Parts
from notifier.rules import is_topic, iso_ms

RETRY_MS: Final = (500, 3000)
"""Bounds of the random `retry:` of every stream, so that clients do not reconnect together."""
OVERLOAD_RETRY_MS: Final = (5000, 20000)
"""The same where a limit refuses the stream."""
NOWHERE: Final = Cursor("0", 0)
"""A cursor of no order: a client that reconnects with it gets a reset."""
OPENING: Final = 1 << 62
"""The `seq` of a stream that is not live: higher than every event's, so that rounds never write to it directly."""

TURBO_STREAM: Final = "<turbo-stream"
"""A text that begins with this is written without its event's name: Turbo listens to events without a name only."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


UNSPREAD_STREAMS: Final = 20
"""Streams of one topic in this process whose pages fetch at once."""
FETCHES_PER_S: Final = 100
"""Of more streams, on average."""
MAX_SPREAD_S: Final = 2.0
MAX_HEAD_BYTES: Final = 200
_TOPIC: Final = b'\ndata: {"topic":'


class EncodedFrame:
    """A frame as bytes, and as an HTTP chunk. Encoded once, whatever the number of streams."""

    __slots__ = ("_text", "chunk", "plain")
    _text: EncodedFrame

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.chunk = b"%x\r\n%b\r\n" % (len(plain), plain)

    @classmethod
    def raw(cls, data: bytes) -> EncodedFrame:
        """Bytes to be written as they are: the head of a response."""
        frame = cls.__new__(cls)
        frame.plain, frame.chunk = b"", data
        return frame

    @property
    def text(self) -> EncodedFrame:
        """The frame for a stream of texts: a JSON string becomes its own lines, other data stays JSON. Computed at the
        first use."""
        try:
            return self._text
        except AttributeError:
            text = _as_text(self)
            if text is not self:  # a frame that refers to itself would wait for the garbage collector
                self._text = text
            return text


def with_spread(channel: str, wire: bytes, streams: int) -> bytes:
    """An event on a topic whose data begin with a topic, with the seconds over which this many pages spread their
    fetches, unless its publisher chose; any other event as it is."""
    if streams <= UNSPREAD_STREAMS or not is_topic(channel):
        return wire
    place = wire.find(_TOPIC, 0, MAX_HEAD_BYTES)
    if place < 0 or b'"spread_s":' in wire:
        return wire
    head = place + len(_TOPIC) - len(b'"topic":')
    return b'%b"spread_s":%g,%b' % (wire[:head], min(MAX_SPREAD_S, streams / FETCHES_PER_S), wire[head:])


def _as_text(frame: EncodedFrame) -> EncodedFrame:
    head, mark, data = frame.plain.partition(b'\ndata: "')
    try:
        text = str(json.loads(b'"' + data)) if mark else None
    except ValueError:
        text = None  # another program wrote it to the broker
    if text is None:
        # Its reader may insert the data of any event: a text within JSON must not become markup there.
        return EncodedFrame(frame.plain.replace(b"<", b"\\u003c")) if b"<" in frame.plain else frame
    if text.startswith(TURBO_STREAM):
        head = head[: head.rindex(b"event: ")]
    else:
        head += b"\n"
    # A line of a stream ends with CR, LF or both (WHATWG HTML, "Server-sent events"); str.splitlines has more ends.
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    return EncodedFrame(b"%b%b\n" % (head, lines.encode(errors="replace")))


class JoinedFrame(EncodedFrame):
    """Pieces of a task's output, encoded when the frame is first written."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces

    def __getattr__(self, name: str) -> bytes:
        """`plain` and `chunk`, as long as they are not set."""
        if name not in ("plain", "chunk"):
            raise AttributeError(name)
        super().__init__(self.pieces.frame())
        return self.chunk if name == "chunk" else self.plain


def after_waiting(key: str, waiting: EncodedFrame, newer: EncodedFrame) -> EncodedFrame:
    """What becomes of a state that waits when a newer one with its key comes: the newer one, or, of a task's output,
    both as one. A frame in another form than output's was written by another program: the newer one stays."""
    if not key.startswith(KEY_PREFIX):
        return newer
    try:
        older = _pieces(waiting)
        pieces = joined(older, _pieces(newer))
    except ValueError:
        return newer
    return waiting if pieces is older else JoinedFrame(pieces)


def _pieces(frame: EncodedFrame) -> Pieces:
    return frame.pieces if isinstance(frame, JoinedFrame) else Pieces.of(frame.plain)


class Item:
    """One frame to deliver. `epoch` and `seq` are an event's place in the order; seq 0 is a frame without id.

    An event with `parts` is one of the parts of a publish: a stream drops it if it has an earlier one. A frame without
    id may have a key. One that begins with `EPHEMERAL_PREFIX` is a repeat key: a stream drops a second frame with it.
    Any other is that of a state, which replaces the older state with the same key.
    """

    __slots__ = ("accepted_us", "epoch", "excluded", "frame", "key", "parts", "seq")

    def __init__(
        self,
        epoch: str,
        seq: int,
        key: str,
        frame: EncodedFrame,
        parts: Parts | None = None,
        excluded: Exclusion | None = None,
        accepted_us: int = 0,
    ) -> None:
        self.epoch = epoch
        self.seq = seq
        self.key = key
        self.frame = frame
        self.parts = parts
        self.excluded = excluded
        self.accepted_us = accepted_us
        """See `Sink.deliver`."""

    @property
    def may_repeat(self) -> bool:
        """True if a stream may have had this frame before or is excluded, so that every stream must be asked."""
        if self.excluded is not None:
            return True
        if self.seq:
            return self.parts is not None and self.parts.first < self.seq
        return self.key.startswith(EPHEMERAL_PREFIX)

    @property
    def is_ephemeral(self) -> bool:
        """True if neither log nor tasks keep it: an opening cannot read it again."""
        return not self.seq and (not self.key or self.key.startswith(EPHEMERAL_PREFIX))


Tasks = Sequence[Mapping[str, Any]]
"""The opening's tasks, as the stream's user sees them."""


def place(asked: Cursor | str | None) -> Cursor | None:
    """Where a client stands that sent this cursor: there. None if it sent none; `NOWHERE` if it cannot be read."""
    return asked if asked is None or isinstance(asked, Cursor) else NOWHERE


def first(frame: EncodedFrame, asked: Cursor | str | None) -> EncodedFrame:
    """A frame without id as the first event of a stream: with `retry:`, and with the client's place as its id, so that
    a client that resets its last id with each response keeps it."""
    start = place(asked)
    return EncodedFrame(_retry() + (b"id: %b\n" % str(start).encode() if start else b"") + frame.plain)


def hello(
    opening: Opening, asked: Cursor | str | None, tasks: Tasks, *, heartbeat_s: float, connection: str
) -> EncodedFrame:
    """What a stream starts from. Its id is the client's place as long as a replay or a reset follows, so that a client
    that loses the connection before it asks for the same again; otherwise the newest event."""
    start = opening.cursor
    if opening.replay or not opening.recovered:
        start = place(asked) or NOWHERE
    data = {
        "v": 1,
        "recovered": opening.recovered,
        "replayed": opening.missed if opening.more else len(opening.replay),
        "unread": opening.unread,
        "tasks": tasks,
        "heartbeat_s": heartbeat_s,
        "connection": connection,
        "time": iso_ms(int(time.time() * 1000)),
    }
    return EncodedFrame(_retry() + own_frame("hello", data, start))


def topics_left(names: Sequence[str]) -> EncodedFrame:
    """The stream hears these topics no longer: their grants have ended."""
    return EncodedFrame(own_frame("topics", {"left": names, "reason": "expired"}))


def reset(opening: Opening, tasks: Tasks) -> EncodedFrame:
    """Events may have been missed: the reason, and the present state."""
    data = {
        "reason": opening.verdict,
        "unread": opening.unread,
        "tasks": tasks,
    }
    return EncodedFrame(own_frame("reset", data, opening.cursor))


def farewell(reason: str, retry_ms: int, start: Cursor | None = None) -> EncodedFrame:
    """`retry:` and `bye`: the server ends the stream, and the client reconnects after `retry_ms`. `start`: the client's
    place, if this is the stream's first event."""
    bye = own_frame("bye", {"reason": reason, "retry_ms": retry_ms}, start)
    return EncodedFrame(b"retry: %d\n" % retry_ms + bye)


def _retry() -> bytes:
    """The `retry:` line, without a blank line: some clients take a block of `retry:` alone for an event."""
    return b"retry: %d\n" % random.randint(*RETRY_MS)


PING_FRAME: Final = EncodedFrame(PING)
DEGRADED_FRAME: Final = EncodedFrame(own_frame("degraded", {"degraded": True}))
RECOVERED_FRAME: Final = EncodedFrame(own_frame("degraded", {"degraded": False}))
