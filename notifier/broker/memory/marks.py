"""What the embedded broker stores of one user's marks.

Must not know: messages, tasks, streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from notifier.broker import MAX_MARKS, MarkAction


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

    def add(self, action: MarkAction, ids: Sequence[str], top: int) -> None:
        """Mark these ids; with `all`, everything up to the seq `top`."""
        self.version += 1
        if action == "all":
            self.read_up_to = top
            self.read.clear()
            return
        marked_ids = self.hidden if action == "delete" else self.read
        marked_ids.update(dict.fromkeys(ids))
        while len(marked_ids) > MAX_MARKS:
            del marked_ids[next(iter(marked_ids))]
