"""What `notifier bench` does to a service: how many streams, of which users, and which events.

Must not know: how a stream is read or an event sent.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Final, Literal

EVENT: Final = "notifier.bench"
"""The type of the events that are published: no inbox shows them."""
NAME: Final = "notifier-bench"
"""The group, and the start of the users' ids. Each run uses the same: without an admin key their history remains."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    url: str
    key: str = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    """One for each user."""
    streams: int
    events_per_s: float
    seconds: float
    to: Literal["user", "group"]
    """`user`: each event goes to one user, in turn. `group`: each event goes to every stream."""
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    """In the data of each event, so that two runs at once do not count each other's."""

    @property
    def users(self) -> int:
        return len(self.tokens)

    @property
    def events(self) -> int:
        return max(1, round(self.events_per_s * self.seconds))

    def user(self, number: int) -> str:
        """The id of a user. Stream n is that of user n modulo `users`."""
        return f"{NAME}-{number % self.users}"

    def channel(self, event: int) -> str:
        return f"group:{NAME}" if self.to == "group" else f"user:{self.user(event)}"

    def mask(self, stream: int) -> int:
        """The events that this stream has to get: one bit for each."""
        if self.to == "group":
            return (1 << self.events) - 1
        bits = bytearray(self.events // 8 + 1)
        for event in range(stream % self.users, self.events, self.users):
            bits[event >> 3] |= 1 << (event & 7)
        return int.from_bytes(bits, "little")
