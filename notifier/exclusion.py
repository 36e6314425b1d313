"""The recipients that a publish leaves out: users, who do not get it at all, and one open stream.

Must not know: channels, brokers, HTTP.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from notifier.json_text import to_json


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What `except` and `except_connection` of a publish name."""

    users: frozenset[str]
    """The ids of users: no delivery, no replay, not in the inbox."""
    connection: str = ""
    """The id of an open stream, from its `hello`: no live delivery."""

    def text(self) -> str:
        """One line of JSON, as announcements carry it."""
        return to_json([sorted(self.users), self.connection])

    @property
    def digest(self) -> str:
        """Short, and another for other users: parts of a message that leave out others are not the same to a stream."""
        return hashlib.sha1(self.text().encode(), usedforsecurity=False).hexdigest()[:12] if self.users else ""


def exclusion_of(text: bytes | str) -> Exclusion:
    """The exclusion that a text names. Raises ValueError."""
    parts = json.loads(text)
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError("not an exclusion")
    users, connection = parts
    if not isinstance(users, list) or not all(isinstance(part, str) for part in (*users, connection)):
        raise ValueError("not an exclusion")
    return Exclusion(frozenset(users), connection)
