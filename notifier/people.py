"""Who is present on a topic: people, and the leases by which the processes with their streams keep them present.

Must not know: brokers, streams, HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from notifier.json_text import to_json

VIEWING: Final = "viewing"
"""The state of a person whose page has said nothing else."""
EARLIER_S: Final = 1.0
"""A lease that is to end earlier by more than this is a change: processes that have read it would look too late."""
MAX_SHOWN: Final = 100
"""With more people on a topic, only their number is shown."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user as others see them."""

    user: str
    name: str | None = None
    state: str = VIEWING

    def text(self) -> str:
        return to_json([self.user, self.name, self.state])

    def public(self) -> dict[str, Any]:
        return {"id": self.user, "name": self.name, "state": self.state}


@dataclass(frozen=True, slots=True)
class Lease:
    """One stream's part in the presence of its user."""

    connection: str
    person: Person
    ttl_s: float
    """The person is present for so long, unless the lease is renewed. 0: it ends now."""


@dataclass(frozen=True, slots=True)
class Present:
    """A lease as it is read back."""

    person: Person
    left_s: float


def person_of(text: bytes | str) -> Person:
    """The person that `Person.text` wrote. Raises ValueError."""
    user, name, state = json.loads(text)
    if not isinstance(user, str) or not isinstance(name, str | None) or not isinstance(state, str):
        raise ValueError("not a person")
    return Person(user, name, state)


def by_user(people: Iterable[Present]) -> dict[str, Person]:
    """Each user once. Of a user's streams, one whose page has given a state counts before those without."""
    users: dict[str, Person] = {}
    for present in people:
        known = users.get(present.person.user)
        if known is None or known.state == VIEWING:
            users[present.person.user] = present.person
    return users


def change_between(before: Mapping[str, Person], after: Mapping[str, Person]) -> dict[str, Any] | None:
    """What the event `presence` says of a change, apart from the topic. None without a change."""
    if len(after) > MAX_SHOWN:
        return None if len(before) == len(after) else everyone(after)
    if len(before) > MAX_SHOWN:
        return everyone(after)
    joined = [person.public() for user, person in after.items() if user not in before]
    left = [person.public() for user, person in before.items() if user not in after]
    changed = [person.public() for user, person in after.items() if before.get(user, person) != person]
    if not (joined or left or changed):
        return None
    return {"count": len(after), "joined": joined, "left": left, "changed": changed}


def everyone(users: Mapping[str, Person]) -> dict[str, Any]:
    """The same for a stream that knows of no person yet."""
    joined = [person.public() for person in users.values()] if len(users) <= MAX_SHOWN else []
    return {"count": len(users), "joined": joined, "left": [], "changed": []}
