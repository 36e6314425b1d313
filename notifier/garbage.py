"""When the garbage collector looks at what: each object is looked at once, soon after it was made.

Python begins a collection by the number of new objects less freed ones. It stands still where an old object is freed
for each new one, as in a history of bounded length: young ones would gather for a minute, and one collection would look
at tens of thousands. So the young ones are collected every `LOOK_EVERY_S`, and what is then alive is excluded from
collections (frozen), open streams among it.

Calls and streams form no cycles (tests/test_garbage.py holds them to it): reference counts free them, also while they
are frozen. Cycles of anything else that was alive when it was frozen are freed by a full collection once in
`FULL_EVERY_S`.

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
LOOK_EVERY_S: Final = 0.2
FULL_EVERY_S: Final = 3600.0
"""Interval of full collections: about 1.5 ms for 1,000 open streams."""


def begin() -> None:
    """Exclude the objects of start-up from collections, and collect less often than Python does."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def collect_forever() -> None:
    """Collect the young objects at intervals, and exclude what is alive from later collections, until cancelled. Then
    nothing is excluded any more: the process may go on without the service."""
    full_at = time.monotonic() + FULL_EVERY_S
    try:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if time.monotonic() < full_at:
                gc.collect(0)
            else:
                gc.unfreeze()
                gc.collect()
                full_at = time.monotonic() + FULL_EVERY_S
            gc.freeze()
    finally:
        gc.unfreeze()
