"""The history of the embedded broker: a log for each channel, bounded in size and time.

Must not know: users, tasks, streams, who reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from notifier.broker import History


@dataclass(slots=True)
class Entry:
    """A stored event."""

    seq: int
    frame: str
    message_id: str
    expires_at_ms: int
    key: str
    """Repeat key, if the same event may be published again."""


@dataclass(slots=True)
class Log:
    """The events of one channel, in one order; messages and other events are bounded apart."""

    messages: deque[Entry] = field(default_factory=deque)
    events: deque[Entry] = field(default_factory=deque)
    last: int = 0
    """Newest seq of the channel."""
    low: int = 0
    """Newest seq that is no longer in the log."""
    appended_s: float = 0
    """Time of the last event, in seconds since 1970."""

    def after(self, seq: int) -> Iterator[Entry]:
        """The messages and events after a seq, each newest first."""
        for entries in (self.messages, self.events):
            yield from takewhile(lambda entry: entry.seq > seq, reversed(entries))


class MemoryHistory:
    """The logs of one process."""

    def __init__(self, bounds: History) -> None:
        self._bounds = bounds
        self._logs: dict[str, Log] = {}
        self._swept_up_to = 0
        """Newest seq of all logs that the sweep removed."""

    def log(self, channel: str) -> Log:
        """A channel's log, emptied if its ttl is over. Reading a channel without events stores nothing."""
        log = self._logs.get(channel)
        if log is None:
            return Log(low=self._swept_up_to)
        if (log.messages or log.events) and log.appended_s + self._bounds.ttl_s < time.time():
            log.messages.clear()
            log.events.clear()
            log.low = log.last
        return log

    def append(self, channel: str, entry: Entry) -> None:
        log = self._logs[channel] = self.log(channel)
        is_message = entry.message_id != ""
        entries, size = (log.messages, self._bounds.size) if is_message else (log.events, self._bounds.event_size)
        entries.append(entry)
        if len(entries) > size:
            log.low = max(log.low, entries.popleft().seq)
        log.last = entry.seq
        log.appended_s = time.time()

    def clear(self, channel: str, seq: int) -> None:
        """Empty a log; cursors before `seq` are then reset on this channel."""
        self._logs[channel] = Log(last=seq, low=seq, appended_s=time.time())

    def sweep(self) -> Iterator[None]:
        """Check every log once, one per step, and remove those without events for ten ttls."""
        for channel in list(self._logs):
            log = self._logs.get(channel)
            if log is not None and log.appended_s + 10 * self._bounds.ttl_s < time.time():
                self._swept_up_to = max(self._swept_up_to, log.last)
                del self._logs[channel]
            yield
