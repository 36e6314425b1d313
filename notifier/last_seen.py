"""When each user last had an open stream: noted as streams open and end, written to the broker in portions.

A process that is killed leaves the times at which its streams opened. Must not know: HTTP, channels.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from notifier import portions
from notifier.broker import Broker
from notifier.broker.values import FORGOTTEN

log = logging.getLogger("notifier.last_seen")

MAX_UNWRITTEN: Final = 100_000
"""Users whose times wait for a broker that is away, in equal parts of its shards. The times of further users are not
noted; their removals are."""

PORTION: Final = 1000
"""Users whose times are written in one turn of the loop."""


class LastSeen:
    """The times of one process' streams. Those of each shard are written by a loop of their own, so that a shard that
    hangs delays no other."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._shards = [_Times(broker) for _ in range(broker.shards)]

    def _times_of(self, user: str) -> _Times:
        return self._shards[self._broker.shard_of(user)]

    def note(self, user: str) -> None:
        """A stream of the user opens or ends now."""
        self._times_of(user).note(user)

    def forget(self, user: str) -> None:
        """Remove the user's time with the next write, which follows one that is on its way. A later note counts."""
        self._times_of(user).forget(user)

    async def of(self, users: Sequence[str]) -> Mapping[str, int]:
        """Unix times in ms, of the users whose time is known."""
        times = dict(await self._broker.last_seen(users))
        for user in users:
            at_ms = self._times_of(user).unwritten.get(user)
            if at_ms is not None:
                times[user] = FORGOTTEN if at_ms == FORGOTTEN else max(at_ms, times.get(user, 0))
        return {user: at_ms for user, at_ms in times.items() if at_ms != FORGOTTEN}

    async def run_forever(self) -> None:
        """Write the times until cancelled. An exception must end the process."""
        await portions.together(times.run_forever() for times in self._shards)

    async def write(self) -> None:
        """Write what was noted, in portions between which the loop has its turn. What the broker could not store waits
        for the next call."""
        await portions.together(times.write() for times in self._shards)


class _Times:
    """The times of one shard's users that the broker does not have."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.unwritten: OrderedDict[str, int] = OrderedDict()
        """Those that could not be stored come first, and are written last."""
        self._wake = asyncio.Event()

    @property
    def _has_room(self) -> bool:
        return len(self.unwritten) < MAX_UNWRITTEN // self._broker.shards

    def note(self, user: str) -> None:
        if user in self.unwritten or self._has_room:
            self.unwritten[user] = int(time.time() * 1000)
            self._wake.set()

    def forget(self, user: str) -> None:
        self.unwritten[user] = FORGOTTEN
        self._wake.set()

    async def run_forever(self) -> None:
        await portions.write_forever(self._wake, self.write)

    async def write(self) -> None:
        self._wake.clear()
        await portions.write(self.unwritten, PORTION, self._write_portion)

    async def _write_portion(self, users: Sequence[str]) -> bool:
        """Write the times of these users. False if nothing can be stored at present."""
        due = {user: self.unwritten.pop(user) for user in users if user in self.unwritten}
        if not due:
            return True
        failed: Sequence[str] = list(due)  # also if the write is cancelled
        try:
            failed = await self._broker.seen(due)
        finally:
            self._put_back({user: due[user] for user in failed})
        return not failed or (len(failed) < len(due) and self._broker.ready)

    def _put_back(self, failed: Mapping[str, int]) -> None:
        if not failed:
            return
        log.debug("the times of %d users wait for the broker", len(failed))
        for user, at_ms in failed.items():
            if at_ms == FORGOTTEN or self._has_room:
                self.unwritten.setdefault(user, at_ms)
                self.unwritten.move_to_end(user, last=False)
        self._wake.set()
