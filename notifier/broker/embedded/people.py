"""Who is present on topics, and when users were last there. In the memory of this process: with it, all its streams are
gone, so neither is written to a file.

Must not know: streams, when leases are renewed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from notifier.broker.values import FORGOTTEN
from notifier.people import EARLIER_S, Lease, Person, Present

MAX_SEEN: Final = 100_000
"""Users whose last time is known; those of the longest ago are forgotten."""


class MemoryPeople:
    """The leases of all channels."""

    def __init__(self) -> None:
        self._leases: dict[str, dict[str, tuple[float, Person]]] = {}
        """By channel and connection: the monotonic time of the end, and the person."""

    def put(self, channel: str, leases: Sequence[Lease]) -> bool:
        """Begin, renew or end leases. True if others see a change, or are to look earlier."""
        now, is_changed = time.monotonic(), False
        known = self._leases.setdefault(channel, {})
        for lease in leases:
            ends_at, person = known.pop(lease.connection, (0.0, lease.person))
            was_present = ends_at > now
            if lease.ttl_s > 0:
                known[lease.connection] = (now + lease.ttl_s, lease.person)
            ends_earlier = was_present and now + lease.ttl_s < ends_at - EARLIER_S
            is_changed = is_changed or was_present != (lease.ttl_s > 0) or person != lease.person or ends_earlier
        if not known:
            del self._leases[channel]
        return is_changed

    def of(self, channel: str) -> Sequence[Present]:
        """The leases that have not ended."""
        now, known = time.monotonic(), self._leases.get(channel, {})
        for connection in [connection for connection, (ends_at, _) in known.items() if ends_at <= now]:
            del known[connection]
        if not known:
            self._leases.pop(channel, None)
        return [Present(person, ends_at - now) for ends_at, person in known.values()]


class LastTimes:
    """When each user last had a stream."""

    def __init__(self) -> None:
        self._times_ms: dict[str, int] = {}
        """The longest ago first."""

    def put(self, times_ms: Mapping[str, int]) -> None:
        """Note the times of users, `FORGOTTEN` to remove one."""
        for user, at_ms in times_ms.items():
            self._times_ms.pop(user, None)
            if at_ms != FORGOTTEN:
                self._times_ms[user] = at_ms
        for user in list(islice(self._times_ms, max(0, len(self._times_ms) - MAX_SEEN))):
            del self._times_ms[user]

    def of(self, users: Sequence[str]) -> Mapping[str, int]:
        """The times of the users that have one."""
        return {user: self._times_ms[user] for user in users if user in self._times_ms}
