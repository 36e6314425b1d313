"""Weights of the items of a pass, so that a nested pass can show its progress within one item.

Must not know: passes, tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate


class Weights:
    """Whole numbers from 0: one value for all items, or a list with one per item. Items beyond the list weigh 0."""

    def __init__(self, weights: int | Iterable[int]) -> None:
        """Raises `ValueError` for a weight that is not a whole number from 0."""
        self._each = _whole(weights) if isinstance(weights, int) else None
        per_item = () if isinstance(weights, int) else weights
        self._upto: Sequence[int] = [0, *accumulate(map(_whole, per_item))]

    def upto(self, items: int) -> int:
        """The sum of the first `items` weights."""
        if self._each is not None:
            return items * self._each
        return self._upto[min(items, len(self._upto) - 1)]

    def within(self, items: int, fraction: float) -> int:
        """The same plus a fraction (0-1) of the next item's weight, rounded down."""
        base = self.upto(items)
        return base + int((self.upto(items + 1) - base) * fraction)


def _whole(weight: object) -> int:
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        raise ValueError(f"a weight must be a whole number from 0, not {weight!r}")
    return weight
