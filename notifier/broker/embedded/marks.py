"""What the embedded broker stores of one user's marks.

Must not know: messages, tasks, streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from notifier.broker.values import MAX_MARKS, MarkAction


@dataclass(slots=True)
class UserMarks:
    """The marks of one user; ids are in the order in which they were marked."""

    read_up_to: int = 0
    """Messages up to this seq are read."""
    read: dict[str, None] = field(default_factory=dict)
    """Further read messages."""
    hidden: dict[str, None] = field(default_factory=dict)
    """Deleted messages, and dismissed tasks as `t:<id>`."""
    version: int = 0
    """The number of changes."""

    def add(self, action: MarkAction, ids: Sequence[str], top: int) -> Sequence[str]:
        """Mark these ids; with `all`, everything up to the seq `top`. Returns the oldest ids, which were removed for
        them."""
        self.version += 1
        if action == "all":
            self.read_up_to = top
            self.read.clear()
            return ()
        marked_ids = self.hidden if action == "delete" else self.read
        marked_ids.update(dict.fromkeys(ids))
        evicted = list(islice(marked_ids, max(0, len(marked_ids) - MAX_MARKS)))
        for marked_id in evicted:
            del marked_ids[marked_id]
        return evicted
