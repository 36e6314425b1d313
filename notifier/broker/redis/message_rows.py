"""Where the messages of logs are: what this process has read of them, without their frames.

A log only grows at its end and is trimmed at its start, so a later read is of the few entries since. Many users share
the logs of their groups. Must not know: users, marks, connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from notifier.broker.inbox import Row

MAX_ROWS: Final = 100_000
"""Rows kept for all logs, about 20 MB; those of the logs that were used longest ago are removed first."""
MAX_LOGS: Final = 2000


class LogRows:
    """The rows of one log in one epoch."""

    __slots__ = ("counted", "excluded", "gone", "name", "reached", "rows")

    def __init__(self, name: str) -> None:
        self.name = name
        self.counted = 0
        """How many of the rows the bound of all logs takes into account."""
        self.rows: list[Row] = []
        self.excluded: dict[int, str] = {}
        """By seq, of the few rows that have them: the ids of users that do not get the message, between line ends."""
        self.gone: bytes | None = None
        """Another value after a message has left the log otherwise than by trimming; None before the first read."""
        self.reached = 0
        """The log is read up to this seq."""

    def add(self, reached: int, gone: bytes, flat: Sequence[Any]) -> bool:
        """Add what was read, as seq, message id, expiry, excluded users. Rows that another call has added
        meanwhile are left out. False if rows that were read before may have left the log."""
        is_same = self.gone in (None, gone)
        self.gone = self.gone if self.gone is not None else gone
        fields = zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        for seq, message_id, expires_at_ms, excluded in fields:
            if seq > self.reached:
                self.rows.append((int(seq), message_id.decode("utf-8", "replace"), int(expires_at_ms)))
                if excluded:
                    self.excluded[int(seq)] = excluded.decode("utf-8", "replace")
        self.reached = max(self.reached, reached)
        return is_same

    def rows_of(self, user: str) -> Sequence[Row]:
        """The rows, without those that leave out this user."""
        if not self.excluded:
            return self.rows
        return [row for row in self.rows if f"\n{user}\n" not in self.excluded.get(row[0], "")]

    def trim(self, length: int) -> bool:
        """Remove the rows that the log, of this length, no longer has. False if rows are missing: the log is not the
        one that was read."""
        del self.rows[: max(0, len(self.rows) - length)]
        if self.excluded:
            oldest = self.rows[0][0] if self.rows else self.reached + 1
            self.excluded = {seq: users for seq, users in self.excluded.items() if seq >= oldest}
        return len(self.rows) == length


class MessageRows:
    """The rows of all logs that this process has read lately."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, str], LogRows] = {}
        """By epoch and key; the last used at the end."""
        self._count = 0

    def of(self, epoch: str, name: str) -> LogRows:
        """The rows of a log, perhaps none yet."""
        key = (epoch, name)
        log = self._logs.pop(key, None) or LogRows(name)
        self._logs[key] = log
        return log

    def renewed(self, epoch: str, name: str) -> LogRows:
        """No rows, in place of those that are not of this log. A call that has these goes on with them."""
        self._remove((epoch, name))
        return self.of(epoch, name)

    def recount(self, epoch: str, logs: Iterable[LogRows]) -> None:
        """Keep the bounds after rows were added to these logs."""
        for log in logs:
            if self._logs.get((epoch, log.name)) is log:
                self._count += len(log.rows) - log.counted
                log.counted = len(log.rows)
        while self._count > MAX_ROWS or len(self._logs) > MAX_LOGS:
            self._remove(next(iter(self._logs)))

    def _remove(self, key: tuple[str, str]) -> None:
        if (log := self._logs.pop(key, None)) is not None:
            self._count -= log.counted
