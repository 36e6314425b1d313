"""What each item of a pass counts for, so that a nested pass can fill in a part of it.

Must not know: passes, tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate


class Weights:
    """Whole numbers from 0: one for every item, or each item's own. Items beyond the last one count nothing."""

    def __init__(self, weights: int | Iterable[int]) -> None:
        """Raises `ValueError` for what is no such number."""
        self._each = _whole(weights) if isinstance(weights, int) else None
        given = () if isinstance(weights, int) else weights
        self._upto: Sequence[int] = [0, *accumulate(map(_whole, given))]

    def upto(self, items: int) -> int:
        """What the first `items` count together."""
        if self._each is not None:
            return items * self._each
        return self._upto[min(items, len(self._upto) - 1)]

    def within(self, items: int, share: float) -> int:
        """The same, with a share (0-1) of the next item; rounded down."""
        here = self.upto(items)
        return here + int((self.upto(items + 1) - here) * share)


def _whole(weight: object) -> int:
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        raise ValueError(f"a weight must be a whole number from 0, not {weight!r}")
    return weight
