"""What the streams of a run heard: latencies, losses, duplicates, order.

Must not know: HTTP.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from notifier.event import Cursor
from notifier.load.plan import Plan

STEP: Final = math.log(1.01)
"""Width of a latency's bucket: percentiles are exact to one percent."""
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Latencies:
    """A histogram with logarithmic buckets, whose size does not grow with the number of deliveries."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._max_s = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[int(math.log(max(seconds, 1e-6) * 1e6) / STEP)] += 1
        self._max_s = max(self._max_s, seconds)

    def percentiles(self) -> dict[str, float | None]:
        """Milliseconds by the name of the percentile; None where nothing was delivered."""
        total = self._buckets.total()
        if not total:
            return dict.fromkeys([*QUANTILES, "max"])
        answer: dict[str, float | None] = {}
        ordered = sorted(self._buckets.items())
        for name, quantile in QUANTILES.items():
            left = math.ceil(quantile * total)
            for bucket, count in ordered:
                left -= count
                if left <= 0:
                    edge_ms = math.exp((bucket + 1) * STEP) / 1e3
                    answer[name] = round(min(edge_ms, self._max_s * 1e3), 2)
                    break
        return answer | {"max": round(self._max_s * 1e3, 2)}


class Heard:
    """What one stream heard."""

    __slots__ = ("_bits", "_last", "duplicates", "mask", "misplaced", "opened")

    def __init__(self, mask: int, events: int) -> None:
        self.mask = mask
        """The events that it has to get."""
        self.opened = False
        """It had its `hello` before the first event was published."""
        self.duplicates = 0
        self.misplaced = 0
        """Events whose id does not follow the id before."""
        self._bits = bytearray(events // 8 + 1)
        self._last: Cursor | None = None

    def add(self, event: int, cursor: Cursor | None) -> bool:
        """True if this event is new to the stream."""
        place, bit = event >> 3, 1 << (event & 7)
        if self._bits[place] & bit:
            self.duplicates += 1
            return False
        self._bits[place] |= bit
        last = self._last
        if cursor is None or (last is not None and last.epoch == cursor.epoch and last.seq >= cursor.seq):
            self.misplaced += 1
        self._last = cursor or last
        return True

    def events(self) -> int:
        """One bit for each event."""
        return int.from_bytes(self._bits, "little")


class Tally:
    """All streams of a run."""

    def __init__(self, plan: Plan) -> None:
        self._events = plan.events
        masks = [plan.mask(number) for number in range(min(plan.users, plan.streams))]
        self.heard = [Heard(masks[number % len(masks)], plan.events) for number in range(plan.streams)]
        self.latencies = Latencies()
        self.delivered = 0
        self.due: dict[int, float] = {}
        """When each event was to be sent, in seconds of the loop's clock. Latencies count from there, so that an event
        that had to wait for a slow service counts with its wait."""
        self._accepted = bytearray(plan.events // 8 + 1)
        self.accepted = 0

    def accept(self, event: int) -> None:
        """The service has answered the publish with 200."""
        self._accepted[event >> 3] |= 1 << (event & 7)
        self.accepted += 1

    def add(self, stream: int, event: int, cursor: Cursor | None, now: float) -> None:
        if 0 <= event < self._events and event in self.due and self.heard[stream].add(event, cursor):
            self.delivered += 1
            self.latencies.add(now - self.due[event])

    def expected(self) -> int:
        """Deliveries that the accepted events owe to the streams that were open."""
        accepted = int.from_bytes(self._accepted, "little")
        return sum((accepted & heard.mask).bit_count() for heard in self.heard if heard.opened)

    def lost(self) -> int:
        """Those of them that did not come."""
        accepted = int.from_bytes(self._accepted, "little")
        return sum((accepted & heard.mask & ~heard.events()).bit_count() for heard in self.heard if heard.opened)
