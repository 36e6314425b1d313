"""Readers that do not keep up: each one's backlog is bounded, and a reader that acknowledges nothing is given up.

Must not know: topics, brokers, the content of a backlog.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from notifier.stream import Stream

STALLED_AFTER_S: Final = 10.0
"""A stream whose reader acknowledges nothing for this time is ended."""


@dataclass(slots=True)
class _Backlog:
    """What is known of a stream with a backlog."""

    limit: int
    """Most bytes of it."""
    accepted: int
    """`Stream.accepted_bytes` at the last look."""
    since: float
    """Monotonic time of the last progress."""
    acknowledged: int | None = None
    """`Stream.acknowledged_bytes`: known if nothing was accepted between two looks. The kernel accepts in large steps,
    which a slow reader needs longer for than the limit."""


class SlowReaders:
    """The slow readers of one process. Calls `fall_behind` with a stream whose backlog is over its limit, and `give_up`
    with one that must be ended as slow."""

    def __init__(
        self, *, max_backlog_bytes: int, fall_behind: Callable[[Stream], None], give_up: Callable[[Stream], None]
    ) -> None:
        self._max_backlog = max_backlog_bytes
        self._fall_behind = fall_behind
        self._give_up = give_up
        self._waiting: dict[Stream, _Backlog] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self, stream: Stream, *, beyond: int = 0) -> None:
        """Compare a reader's backlog with its limit, which is raised by `beyond` bytes until the backlog is gone."""
        if not stream.backlog_bytes:
            # Send the waiting states now: no further event may follow.
            stream.release_states()
            stream.flush()
        if size := stream.backlog_bytes:
            backlog = self._waiting.get(stream)
            if backlog is None:
                backlog = self._waiting[stream] = _Backlog(0, stream.accepted_bytes, time.monotonic())
            backlog.limit = max(backlog.limit, self._max_backlog + beyond)
            if size > backlog.limit:
                self._fall_behind(stream)

    def check_all(self) -> None:
        """Check every slow reader; to be called about once a second."""
        now = time.monotonic()
        for stream, backlog in list(self._waiting.items()):
            if not stream.backlog_bytes:
                del self._waiting[stream]
                self.check(stream)
            elif _progressed(stream, backlog):
                backlog.since = now
            elif now - backlog.since > STALLED_AFTER_S:
                self._give_up(stream)

    def forget(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        self._waiting.pop(stream, None)


def _progressed(stream: Stream, backlog: _Backlog) -> bool:
    """True if the reader has accepted or acknowledged something since the last look."""
    accepted, acknowledged = stream.accepted_bytes, None
    if accepted == backlog.accepted:
        acknowledged = stream.acknowledged_bytes
    before, backlog.acknowledged = backlog.acknowledged, acknowledged
    progressed = accepted != backlog.accepted or (before is not None and acknowledged != before)
    backlog.accepted = accepted
    return progressed
