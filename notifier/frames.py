"""Frames as they leave, and what the service itself says on a stream: hello, reset, degraded, ping, bye.

Must not know: HTTP, which streams there are.
"""

from __future__ import annotations

import random
import time
from typing import Final

from notifier.broker import Opening
from notifier.event import PING, Cursor, own_frame
from notifier.rules import iso_ms

RETRY_MS: Final = (500, 3000)
"""Bounds of the random `retry:` of every stream, so that clients do not come back together."""
OVERLOAD_RETRY_MS: Final = (5000, 20000)


NOWHERE: Final = Cursor("0", 0)
"""A cursor of no order: whoever comes back with it gets a reset."""


class EncodedFrame:
    """One frame as it leaves: wrapped into its HTTP chunk once, whatever the number of streams."""

    __slots__ = ("chunk", "plain")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.chunk = b"%x\r\n%b\r\n" % (len(plain), plain)

    @classmethod
    def bare(cls, data: bytes) -> EncodedFrame:
        """Bytes that are no frame and no chunk: the head of an answer."""
        frame = cls.__new__(cls)
        frame.plain, frame.chunk = b"", data
        return frame


def hello(opening: Opening, asked: Cursor | str | None, *, heartbeat_s: float) -> EncodedFrame:
    """The first event of a stream. Its id is where the stream starts from: the client's own cursor when a replay or a
    reset follows, so that a client that is cut off before it asks for the same again."""
    start = opening.cursor
    if opening.replay or not opening.recovered:
        start = asked if isinstance(asked, Cursor) else NOWHERE
    data = {
        "v": 1,
        "recovered": opening.recovered,
        "replayed": len(opening.replay),
        "unread": opening.unread,
        "tasks": [task.public() for task in opening.tasks],
        "heartbeat_s": heartbeat_s,
        "time": iso_ms(int(time.time() * 1000)),
    }
    return EncodedFrame(_retry() + own_frame("hello", data, start))


def reset(opening: Opening) -> EncodedFrame:
    """Something may have been missed: the reason, and the present state."""
    data = {
        "reason": opening.verdict,
        "unread": opening.unread,
        "tasks": [task.public() for task in opening.tasks],
    }
    return EncodedFrame(own_frame("reset", data, opening.cursor))


def waiting() -> EncodedFrame:
    """The first thing on a stream that is opened while the broker is away."""
    return EncodedFrame(_retry() + DEGRADED_FRAME.plain)


def farewell(reason: str, retry_ms: int) -> EncodedFrame:
    """`retry:` and `bye`: the server ends the stream, and says when to come back."""
    return EncodedFrame(b"retry: %d\n" % retry_ms + own_frame("bye", {"reason": reason, "retry_ms": retry_ms}))


def _retry() -> bytes:
    """Not a block of its own: some clients take `retry:` alone for an event."""
    return b"retry: %d\n" % random.randint(*RETRY_MS)


PING_FRAME: Final = EncodedFrame(PING)
DEGRADED_FRAME: Final = EncodedFrame(own_frame("degraded", {"degraded": True}))
RECOVERED_FRAME: Final = EncodedFrame(own_frame("degraded", {"degraded": False}))
