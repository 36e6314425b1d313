"""Readers that do not keep up: each one's backlog is bounded, and a reader that accepts nothing is given up.

Must not know: topics, brokers, the content of a backlog.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from notifier.stream import Stream

STALLED_AFTER_S: Final = 10.0
"""A stream whose socket accepts nothing for this time is ended."""


class SlowReaders:
    """The slow readers of one process. Calls `give_up` with a stream that must be ended as slow."""

    def __init__(self, *, max_backlog_bytes: int, give_up: Callable[[Stream], None]) -> None:
        self._max_backlog = max_backlog_bytes
        self._give_up = give_up
        self._waiting: dict[Stream, tuple[int, float, int]] = {}
        """Streams with a backlog: bytes accepted, the (monotonic) time since which that is so, the backlog's limit."""

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self, stream: Stream, *, beyond: int = 0) -> None:
        """Compare a reader's backlog with its limit, which is raised by `beyond` bytes until the backlog is gone."""
        if not stream.backlog_bytes:
            # Send the waiting states now: no further event may follow.
            stream.release_states()
            stream.flush()
        if backlog := stream.backlog_bytes:
            accepted, since, limit = self._waiting.get(stream) or (stream.accepted_bytes, time.monotonic(), 0)
            limit = max(limit, self._max_backlog + beyond)
            self._waiting[stream] = (accepted, since, limit)
            if backlog > limit:
                self._give_up(stream)

    def check_all(self) -> None:
        """Check every slow reader; to be called about once a second."""
        now = time.monotonic()
        for stream, (accepted, since, limit) in list(self._waiting.items()):
            if not stream.backlog_bytes:
                del self._waiting[stream]
                self.check(stream)
            elif stream.accepted_bytes != accepted:
                self._waiting[stream] = (stream.accepted_bytes, now, limit)
            elif now - since > STALLED_AFTER_S:
                self._give_up(stream)

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        self._waiting.pop(stream, None)
