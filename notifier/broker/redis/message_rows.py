"""Where the messages of logs are: what this process has read of them, without their frames.

A log only grows at its end and is trimmed at its start, so a later read is of the few entries since. Many users share
the logs of their groups. Must not know: users, marks, connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from notifier.broker.inbox import Row

MAX_ROWS: Final = 100_000
"""Rows kept for all logs, about 20 MB; those of the logs that were used longest ago are removed first."""
MAX_LOGS: Final = 2000


class LogRows:
    """The rows of one log in one epoch."""

    __slots__ = ("name", "reached", "rows")

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[Row] = []
        self.reached = 0
        """The log is read up to this seq."""

    def add(self, reached: int, flat: Sequence[Any]) -> None:
        """Add what was read, as seq, message id, expiry. Rows that another call has added meanwhile are left out."""
        self.rows += [
            (int(seq), message_id.decode("utf-8", "replace"), int(expires_at_ms))
            for seq, message_id, expires_at_ms in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
            if seq > self.reached
        ]
        self.reached = max(self.reached, reached)

    def trim(self, length: int) -> bool:
        """Remove the rows that the log, of this length, no longer has. False if rows are missing: the log is not the
        one that was read."""
        del self.rows[: max(0, len(self.rows) - length)]
        return len(self.rows) == length


class MessageRows:
    """The rows of all logs that this process has read lately."""

    def __init__(self) -> None:
        self._logs: dict[tuple[str, str], LogRows] = {}
        """By epoch and key; the last used at the end."""

    def of(self, epoch: str, name: str) -> LogRows:
        """The rows of a log, perhaps none yet."""
        log = self._logs.pop((epoch, name), None) or LogRows(name)
        self._logs[epoch, name] = log
        return log

    def renewed(self, epoch: str, name: str) -> LogRows:
        """No rows, in place of those that are not of this log. A call that has these goes on with them."""
        self._logs.pop((epoch, name), None)
        return self.of(epoch, name)

    def remove_oldest(self) -> None:
        """Keep the bounds."""
        count = sum(len(log.rows) for log in self._logs.values())
        for key in list(self._logs):
            if count <= MAX_ROWS and len(self._logs) <= MAX_LOGS:
                return
            count -= len(self._logs.pop(key).rows)
