"""When the garbage collector looks at what: each object twice at most, soon after it was made.

Python begins a collection by the number of new objects less freed ones. It stands still where an old object is freed
for each new one, as in a history of bounded length: young ones would gather for a minute, and one collection would look
at tens of thousands. So the collector does not begin by itself: the young objects are collected every `LOOK_EVERY_S`.
What is alive after a second look, `FREEZE_EVERY_S` later at most, is excluded from collections (frozen), open streams
among it. The newest objects of that moment have both looks at once, and where many objects are made, as in a storm of
connections, the second look is left out.

Streams form no cycles, and calls none that live on (tests/test_garbage.py holds them to it): reference counts free
them, also while they are frozen. Cycles of anything else that was alive when it was frozen are freed by a full
collection, once memory has grown by as much as was in use after the last one and by `ROOM_BLOCKS`. It takes long (about
200 ms for 15,000 streams), so there is none as long as memory does not grow.

Must not know: what a stream is.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Final

LOOK_EVERY_S: Final = 0.05
FREEZE_EVERY_S: Final = 2.0
MAX_YOUNG_S: Final = 0.0015
"""What the looks since the last freeze took; with more, the second look would hold the event loop up as long."""
ROOM_BLOCKS: Final = 2_000_000
"""Growth that is never a reason for a full collection, in Python's memory blocks: about 200 MB."""


def begin() -> None:
    """Exclude the objects of start-up from collections, and begin no collection but by `look_forever`."""
    gc.collect()
    gc.freeze()
    gc.disable()


def end() -> None:
    """Leave all objects to Python's collector again: the process may go on without the service."""
    gc.unfreeze()
    gc.enable()


def _full_at() -> int:
    """Return the number of memory blocks in use at which a full collection is due."""
    return 2 * sys.getallocatedblocks() + ROOM_BLOCKS


async def look_forever() -> None:
    """Collect the young objects at intervals, and exclude what stays from later collections, until cancelled."""
    freeze_at, full_at, young_s = time.monotonic() + FREEZE_EVERY_S, _full_at(), 0.0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        now, began = time.monotonic(), time.perf_counter()
        gc.collect(0)
        young_s += time.perf_counter() - began
        if now < freeze_at and young_s < MAX_YOUNG_S:
            continue
        if sys.getallocatedblocks() >= full_at:
            gc.unfreeze()
            gc.collect()
            full_at = _full_at()
        elif now >= freeze_at:
            gc.collect(1)
        gc.freeze()
        freeze_at, young_s = now + FREEZE_EVERY_S, 0.0
