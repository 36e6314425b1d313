"""The history of the embedded broker: a log for each channel, bounded in size and time.

Must not know: users, tasks, streams, who reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from notifier.broker.embedded.journal import Journal
from notifier.broker.embedded.log import Entry, Left, Log
from notifier.broker.values import History
from notifier.rules import is_topic

MAX_LEFT: Final = 10
"""Messages of a channel that were removed and are still known, for questions asked afterwards."""
MAX_CORRECTED: Final = 10
"""Times of corrections that are kept for a message."""


class MemoryHistory:
    """The logs of one process."""

    def __init__(self, bounds: History, journal: Journal, swept_up_to: int = 0, topics_up_to: int = 0) -> None:
        self._bounds = bounds
        self._journal = journal
        self._logs: dict[str, Log] = {}
        self._removed = {False: Log(low=swept_up_to), True: Log(low=topics_up_to)}
        """What is read of a channel without a log: no events, and the newest seq of all logs that were removed.
        Those of topics (True) are removed far more often."""

    def log(self, channel: str) -> Log:
        """A channel's log to read, emptied if its ttl is over. Reading a channel without events stores nothing."""
        log = self._logs.get(channel)
        if log is None:
            log = self._journal.take(channel)
            if log is None:
                return self._removed[is_topic(channel)]
            self._logs[channel] = log
        if (log.messages or log.events) and log.appended_s + self._bounds.ttl_of(channel) < time.time():
            if is_topic(channel):
                self._remove(channel)
                return self._removed[True]
            log.messages.clear()
            log.events.clear()
            log.left = ()
            log.low = log.last
            self._journal.empty(channel, log)
        return log

    def append(self, channel: str, entry: Entry) -> None:
        log = self.log(channel)
        if channel not in self._logs:
            log = self._logs[channel] = Log(low=log.low)
        is_message = entry.message_id != ""
        if log.left:  # what is here again has not left
            log.left = [each for each in log.left if each.entry.message_id != entry.message_id]
        entries = log.messages if is_message else log.events
        entries.append(entry)
        size = self._bounds.size_of(channel, is_message=is_message)
        trimmed: Sequence[Entry] = ()
        if len(entries) > size:
            trimmed = [entries.popleft() for _ in range(len(entries) - size)]  # more than one if the bound was larger
            log.low = max(log.low, trimmed[-1].seq)
        log.last = entry.seq
        log.appended_s = time.time()
        self._journal.append(channel, log, entry, trimmed)

    def remove(self, channel: str, matches: Callable[[Entry], bool], why: str) -> Sequence[Entry]:
        """Remove messages from a channel. Cursors stay valid: what is removed is missed by no stream."""
        log = self.log(channel)
        removed = [entry for entry in log.messages if matches(entry)]
        if removed:
            log.messages = deque(entry for entry in log.messages if not matches(entry))
            left = [Left(replace(entry, frame=""), why, time.time_ns() // 1_000_000) for entry in removed]
            log.left = [*log.left, *left][-MAX_LEFT:]
            self._journal.remove_entries(channel, log, [entry.seq for entry in removed])
        return removed

    def change(self, channel: str, entry: Entry, frame: str) -> None:
        """Replace the frame of an entry of a channel."""
        entry.frame = frame
        entry.corrected_ms = [*entry.corrected_ms, time.time_ns() // 1_000_000][-MAX_CORRECTED:]
        self._journal.change_entry(channel, self._logs[channel], entry)

    def clear(self, channel: str, seq: int) -> None:
        """Empty a log; cursors before `seq` are then reset on this channel."""
        self._journal.take(channel)
        log = self._logs[channel] = Log(last=seq, low=seq, appended_s=time.time())
        self._journal.empty(channel, log)

    def sweep(self) -> Iterator[None]:
        """Check every log once, four per step, and remove those without events for ten ttls; of a topic, for one."""
        known, now = [*self._logs, *self._journal.waiting()], time.time()
        topic_life_s, life_s = self._bounds.topic_ttl_s, 10 * self._bounds.ttl_s
        shortest_s = min(topic_life_s, life_s)
        for place, channel in enumerate(known):
            log = self._logs.get(channel)
            quiet_s = now - (self._journal.appended_s(channel) if log is None else log.appended_s)
            if quiet_s > shortest_s and quiet_s > (topic_life_s if is_topic(channel) else life_s):
                self._remove(channel)
            if place % 4 == 0:
                yield
                now = time.time()

    def _remove(self, channel: str) -> None:
        log = self._logs.pop(channel, None) or self._journal.take(channel)
        if log is None:
            return
        removed = self._removed[is_topic(channel)]
        removed.low = max(removed.low, log.last)
        self._journal.remove_log(channel, removed.low)
