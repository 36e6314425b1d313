"""How many streams a process accepts: of a user, and from an address.

Must not know: HTTP, brokers, what a stream hears.
"""

from __future__ import annotations

from collections import Counter


class Admission:
    """Counts the open streams of each address."""

    def __init__(self, *, max_per_user: int, max_per_address: int) -> None:
        self._max_per_user = max_per_user
        self._max_per_address = max_per_address
        self._addresses: Counter[str] = Counter()

    def refuses(self, of_user: int, address: str) -> bool:
        """True if a user with this many streams may have no further one, or its address."""
        return of_user >= self._max_per_user or self._addresses[address] >= self._max_per_address

    def add(self, address: str) -> None:
        self._addresses[address] += 1

    def remove(self, address: str) -> None:
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]
