"""A histogram of durations whose buckets double: an observation finds its bucket by the length of a number in bits.

An observation costs less than the reading of the clock before it. Must not know: what is measured, how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

FIRST: Final = 7
LAST: Final = 24
"""The buckets that are shown: up to 2**7 µs (0.000128 s), each twice the one before, up to 2**24 µs (16.777216 s)."""
BOUNDS: Final = tuple(2**bits / 1_000_000 for bits in range(FIRST, LAST + 1))
"""Their upper bounds in seconds; one more bucket has all that is above."""


class Histogram:
    """Counts durations in whole microseconds. One below zero, between clocks that differ, counts as zero."""

    __slots__ = ("_by_bits", "sum_us")

    def __init__(self) -> None:
        self._by_bits = [0] * 65
        self.sum_us = 0

    def observe(self, us: int) -> None:
        if us > 0:
            self.sum_us += us
            self._by_bits[us.bit_length()] += 1
        else:
            self._by_bits[0] += 1

    def observe_s(self, seconds: float) -> None:
        self.observe(int(seconds * 1_000_000))

    def values(self) -> Mapping[str, Any]:
        """The counts, one for each of `BOUNDS` and one above the last, not cumulated; and the sum in seconds."""
        by_bits = self._by_bits
        counts = [sum(by_bits[: FIRST + 1]), *by_bits[FIRST + 1 : LAST + 1], sum(by_bits[LAST + 1 :])]
        return {"counts": counts, "sum": self.sum_us / 1_000_000}


def total(histograms: Iterable[Histogram]) -> Histogram:
    """All in one."""
    whole = Histogram()
    for histogram in histograms:
        whole.sum_us += histogram.sum_us
        whole._by_bits = [count + more for count, more in zip(whole._by_bits, histogram._by_bits, strict=True)]
    return whole
