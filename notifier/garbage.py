"""When the garbage collector looks at what: each object twice at most, soon after it was made.

Python begins a collection by the number of new objects less freed ones. It stands still where an old object is freed
for each new one, as in a history of bounded length: young ones would gather for a minute, and one collection would look
at tens of thousands. So the collector does not begin by itself: the young objects are collected every `LOOK_EVERY_S`.
What is alive after a second look, `FREEZE_EVERY_S` later at most, is excluded from collections (frozen), open streams
among it. The newest objects of that moment have both looks at once, and where many objects are made, as in a storm of
connections, the second look is left out.

Streams form no cycles, and calls none that live on (tests/test_garbage.py holds them to it): reference counts free
them, also while they are frozen. Cycles of anything else that was alive when it was frozen are freed by a full
collection once in `FULL_EVERY_S`.

Must not know: what a stream is.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Final

LOOK_EVERY_S: Final = 0.05
FREEZE_EVERY_S: Final = 2.0
MAX_YOUNG_S: Final = 0.0015
"""What the looks since the last freeze took; with more, the second look would hold the event loop up as long."""
FULL_EVERY_S: Final = 3600.0
"""Interval of full collections: about 1.5 ms for 1,000 open streams."""


def begin() -> None:
    """Exclude the objects of start-up from collections, and begin no collection but by `look_forever`."""
    gc.collect()
    gc.freeze()
    gc.disable()


def end() -> None:
    """Leave all objects to Python's collector again: the process may go on without the service."""
    gc.unfreeze()
    gc.enable()


async def look_forever() -> None:
    """Collect the young objects at intervals, and exclude what stays from later collections, until cancelled."""
    started = time.monotonic()
    freeze_at, full_at, young_s = started + FREEZE_EVERY_S, started + FULL_EVERY_S, 0.0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now, began = time.monotonic(), time.perf_counter()
        gc.collect(0)
        young_s += time.perf_counter() - began
        if now >= full_at:
            gc.unfreeze()
            gc.collect()
            full_at = now + FULL_EVERY_S
        elif now >= freeze_at:
            gc.collect(1)
        elif young_s < MAX_YOUNG_S:
            continue
        gc.freeze()
        freeze_at, young_s = now + FREEZE_EVERY_S, 0.0
