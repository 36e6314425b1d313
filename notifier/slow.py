"""Readers that do not keep up: what waits in front of each is bounded, and one that takes nothing is given up.

Must not know: topics, brokers, what is waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from notifier.rounds import Stream

STALLED_AFTER_S: Final = 10.0
"""A stream whose socket took nothing for so long is ended."""


class SlowReaders:
    """The slow ones of one process. `give_up` is called with a stream that is to be ended as slow."""

    def __init__(self, *, max_backlog_bytes: int, give_up: Callable[[Stream], None]) -> None:
        self._max_backlog = max_backlog_bytes
        self._give_up = give_up
        self._waiting: dict[Stream, tuple[int, float, int]] = {}
        """Streams whose socket is full: what it had accepted, since when it has been that much, most bytes to wait."""

    def __len__(self) -> int:
        return len(self._waiting)

    def look(self, stream: Stream, *, beyond: int = 0) -> None:
        """Looks at what waits in front of a reader; `beyond` bytes of it are not held against it."""
        if not stream.backlog_bytes:
            # Room again. A state that waited has nobody else to send it.
            stream.release_states()
            stream.flush()
        if waiting := stream.backlog_bytes:
            accepted, since, bound = self._waiting.get(stream) or (stream.accepted_bytes, time.monotonic(), 0)
            bound = max(bound, self._max_backlog + beyond)
            self._waiting[stream] = (accepted, since, bound)
            if waiting > bound:
                self._give_up(stream)

    def look_again(self) -> None:
        """Looks at all of them; to be called every second or so."""
        now = time.monotonic()
        for stream, (accepted, since, bound) in list(self._waiting.items()):
            if not stream.backlog_bytes:
                del self._waiting[stream]
                self.look(stream)
            elif stream.accepted_bytes != accepted:
                self._waiting[stream] = (stream.accepted_bytes, now, bound)
            elif now - since > STALLED_AFTER_S:
                self._give_up(stream)

    def forget(self, stream: Stream) -> None:
        """The stream is gone."""
        self._waiting.pop(stream, None)
