"""Frames that arrive while a stream is opened, and will not be in its opening.

Must not know: brokers, what is written to a stream.
"""

from __future__ import annotations

from typing import Final

from notifier.frames import Item
from notifier.stream import Stream

MAX_PENDING: Final = 5000
"""Frames that may wait for a stream that is opening. With more, or if those without history have more bytes than a
backlog may have, it is ended as slow, and resumes from its cursor."""


def hold(stream: Stream, item: Item, max_bytes: int) -> bool:
    """Keep a frame until the stream is open. False if there are too many."""
    if not stream.reading and not item.is_ephemeral:
        return True  # it was stored before the opening that is still to be read
    if item.is_ephemeral:
        stream.pending_bytes += len(item.frame.plain)
    if len(stream.pending) >= MAX_PENDING or stream.pending_bytes > max_bytes:
        return False
    stream.pending.append(item)
    return True
