"""When the garbage collector looks at what: open streams are excluded from it, since looking at each takes time.

A stream and its connection form no cycle that outlives them: reference counts free them, also while they are frozen
(tests/test_garbage.py holds them to it). Cycles of anything else that was alive at such a moment are freed by a
full collection once in `FULL_EVERY_S`.

Must not know: what a stream is.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Final

THRESHOLDS: Final = (5_000, 50, 1_000)
"""New objects before they are looked at (about 1 ms), and how often that happens before older ones are. Python's own
thresholds would make the collector a tenth of the cost of a connect."""
LOOK_EVERY_S: Final = 0.1
"""How often new objects are looked at in any case, and excluded. Python counts new objects less freed ones: where
events take the places of older ones in histories, it looks at none until a burst comes, and then at all of them (18 ms
in the middle of 500 connects)."""
FULL_EVERY_S: Final = 3600.0
"""Interval of full collections: about 1.5 ms for 1,000 open streams."""


def begin() -> None:
    """Exclude the objects of start-up from collections, and collect less often than Python does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def spare_forever() -> None:
    """Look at new objects, and exclude those that stay from further collections, until cancelled."""
    full_at = time.monotonic() + FULL_EVERY_S
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if time.monotonic() >= full_at:
            gc.unfreeze()
            gc.collect()
            full_at = time.monotonic() + FULL_EVERY_S
        else:
            gc.collect(0)
        gc.freeze()
