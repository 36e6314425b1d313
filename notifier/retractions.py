"""Messages that are gone, before the clients of the open streams know.

A stream whose message is gone is opened again, as at a resync: the opening has the number of unread messages, and the
ids go out with it. Must not know: brokers, how streams are opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from notifier.broker.values import MAX_FRAME_MARKS
from notifier.stream import Stream


class Retractions:
    """The ids of such messages, by stream; of more than `MAX_FRAME_MARKS` the first, and the client then sees that the
    number of unread messages is another."""

    def __init__(self) -> None:
        self._ids: dict[Stream, list[str]] = {}

    def note(self, streams: Iterable[Stream], message_id: str) -> None:
        for stream in streams:
            ids = self._ids.setdefault(stream, [])
            if message_id not in ids and len(ids) < MAX_FRAME_MARKS:
                ids.append(message_id)

    def take(self, stream: Stream) -> Sequence[str]:
        """The ids for a stream, once."""
        return self._ids.pop(stream, ())
