"""Writes an opening to a stream: `hello` or `reset`, a portion of the replay, and the present state after the last.

Must not know: brokers, which streams exist, when a stream is opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from notifier.broker.values import Opening
from notifier.event import Cursor, own_frame
from notifier.frames import EncodedFrame, hello, reset, topics_left
from notifier.repeats import Repeats
from notifier.stream import Stream


def write_opening(
    stream: Stream,
    opening: Opening,
    *,
    repeats: Repeats,
    heartbeat_s: float,
    connection_of: Callable[[Stream], str],
    left: Sequence[str] = (),
    retracted: Sequence[str] = (),
) -> None:
    """Queue an opening's frames, and note the place that the replay reaches if more of it follows."""
    stream.revoked = opening.revoked
    stream.forget_states()  # older than the opening
    is_reopened, lost = stream.greeted, not opening.recovered
    if lost or not is_reopened:
        asked = stream.cursor if opening.verdict == "ok" else opening.cursor
        stream.since = asked.seq if isinstance(asked, Cursor) else opening.cursor.seq
    tasks = [] if is_reopened and not lost else [task.public(stream.may_cancel) for task in opening.tasks]
    if not is_reopened:
        connection = connection_of(stream)
        stream.offer(hello(opening, stream.cursor, tasks, heartbeat_s=heartbeat_s, connection=connection))
        stream.begun = stream.greeted = True
    if left:  # before any event: a client may take a topic for heard up to the newest event that it has
        stream.offer(topics_left(left))
    if lost:
        stream.offer(reset(opening, tasks))
    for seq, frame in opening.replay:
        if not _has_part(stream, opening, seq, repeats):
            stream.offer(EncodedFrame(b"id: %b-%d\n%b" % (opening.cursor.epoch.encode(), seq, frame)))
    stream.continued = opening.more
    if opening.more:
        stream.cursor = opening.cursor
    elif is_reopened and not lost:
        _repair_state(stream, opening, retracted)


def _has_part(stream: Stream, opening: Opening, seq: int, repeats: Repeats) -> bool:
    """True if the stream has an earlier part of this replayed event. Remembers the part, for those that follow."""
    if seq not in opening.keys:
        return False
    key, topic = opening.keys[seq]
    return stream.has_part(repeats.note(opening.cursor.epoch, key, topic, seq), seq)


def _repair_state(stream: Stream, opening: Opening, retracted: Sequence[str]) -> None:
    """Send the present state again: frames without id may have been missed before a resync or during the replay."""
    for task in reversed(opening.tasks):
        stream.offer_state(task.id, EncodedFrame(task.frame().encode()))
    stream.offer(EncodedFrame(own_frame("inbox", {"read": [], "deleted": list(retracted), "unread": opening.unread})))


def was_revoked(stream: Stream, opening: Opening) -> bool:
    """True if the user was disconnected after the stream was attached. At the first opening there is no earlier token
    to compare, so the time of the disconnect decides."""
    if not opening.revoked:
        return False
    if stream.revoked is not None:
        return opening.revoked != stream.revoked
    return opening.revoked_ago_s is not None and opening.revoked_ago_s <= time.monotonic() - stream.attached_at
