"""When the garbage collector looks at what: open streams are excluded from it, since looking at each takes time.

A stream and its connection form no cycle that outlives them: reference counts free them, also while they are frozen
(tests/test_garbage.py holds them to it). Cycles of anything else that was alive when the streams were frozen are freed
by a full collection once in `FULL_EVERY_S`.

Must not know: what a stream is.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

THRESHOLDS: Final = (5_000, 50, 1_000)
"""New objects before they are looked at (about 1 ms), and how often that happens before older ones are. Python's own
thresholds would make the collector a tenth of the cost of a connect."""
LOOK_EVERY_S: Final = 1.0
MIN_GROWTH: Final = 100
"""New streams that are worth freezing."""
FULL_EVERY_S: Final = 3600.0
"""Interval of full collections: about 1.5 ms for 1,000 open streams."""


def begin() -> None:
    """Exclude the objects of start-up from collections, and collect less often than Python does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def spare_forever(stream_count: Callable[[], int]) -> None:
    """Exclude new streams from collections every second, until cancelled."""
    frozen_count, full_at = 0, time.monotonic() + FULL_EVERY_S
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        count = stream_count()
        if time.monotonic() >= full_at:
            gc.unfreeze()
            gc.collect()
            full_at = time.monotonic() + FULL_EVERY_S
        elif count < frozen_count + MIN_GROWTH:
            frozen_count = min(frozen_count, count)
            continue
        gc.freeze()
        frozen_count = count
