"""How late the event loop is: what is due now waits for what runs.

Must not know: what runs.
"""

from __future__ import annotations

import asyncio
from typing import Final

from notifier.histogram import Histogram

EVERY_S: Final = 0.25


async def measure_forever(lags: Histogram) -> None:
    """Observe the lag four times a second until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        lags.observe_s(loop.time() - due)
