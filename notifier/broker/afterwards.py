"""What a broker can say afterwards: the records of a user's connections, and where a message is stored.

Must not know: what a record says, who asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_RECORDS: Final = 20
"""Records of connections kept for a user; those of the connections that opened first are removed."""

RecordTexts = Mapping[str, str]
"""The records of one user by their ids, which are in the order in which the connections opened. No records: remove all
that are stored."""
Join = Callable[[RecordTexts], RecordTexts]
"""Makes fewer of a user's records. What it joins has the id of one of them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the history of one channel, or one of the last that were removed from it."""

    channel: str
    seq: int
    accepted_ms: int
    """When the service accepted it, in ms of Unix time; 0 if that is not known."""
    publisher: str
    """The publisher's name; empty if it is not known."""
    expires_at_ms: int
    is_excluded: bool
    """True if the publish left the user out."""
    corrected_ms: Sequence[int] = ()
    """When it was corrected, the last ten times."""
    removed: str = ""
    """Why the history has it no longer: `retracted`, `replaced`, or empty: it has it."""
    removed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Trail:
    """Where a message is, as one user can see it."""

    epoch: str
    places: Sequence[Stored]
    """In the order of the channels that were asked for; a channel without the message has no place."""
    is_read: bool
    """True if the user has read or deleted it."""


class Afterwards(ABC):
    """The part of a broker that answers questions about the past."""

    @abstractmethod
    async def note(
        self, users: Mapping[str, RecordTexts], *, ttl_s: int, join: Join = dict, joinable: Collection[str] = ()
    ) -> Sequence[str]:
        """Store records of users, in place of earlier ones with the same ids. All records of a user are kept for
        `ttl_s` after the last call. Returns the users whose records are not stored, since the broker, or a part of it,
        is away.

        Where many are stored, `join` makes fewer of them before any is removed: at least of the users in `joinable`."""

    @abstractmethod
    async def records(self, user: str) -> Sequence[str]:
        """The records of a user, the last `MAX_RECORDS` and perhaps earlier ones; the connection that opened first
        comes first."""

    @abstractmethod
    async def trail(self, user: str, message_id: str, channels: Sequence[str]) -> Trail:
        """Where the histories of these channels, as the user's streams read them, have a message, or had it."""
