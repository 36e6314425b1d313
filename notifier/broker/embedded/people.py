"""Who is present on topics, in the memory of this process: with the process, all its streams are gone.

Must not know: streams, when leases are renewed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from notifier.people import EARLIER_S, Lease, Person, Present


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
