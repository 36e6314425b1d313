"""What waits to be written, in portions between which the event loop has its turn; and calls that run concurrently.

Must not know: what is written, where to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Reversible, Sequence
from typing import Any, Final

WRITE_EVERY_S: Final = 1.0


async def write_forever(wake: asyncio.Event, write: Callable[[], Awaitable[None]]) -> None:
    """Call `write` when `wake` is set, once in `WRITE_EVERY_S` at most, until cancelled."""
    while True:
        await wake.wait()
        await write()
        await asyncio.sleep(WRITE_EVERY_S)


async def write(waiting: Reversible[str], size: int, portion: Callable[[Sequence[str]], Awaitable[bool]]) -> None:
    """Call `portion` with at most `size` of the names that wait, until it returns False; with none if none waits.

    The newest come first, so that what a part of a broker refused, and put back as the oldest, delays nothing else."""
    names = [*reversed(waiting)]
    for start in range(0, max(1, len(names)), size):
        if not await portion(names[start : start + size]):
            return
        await asyncio.sleep(0)


async def all_ended(calls: Iterable[Awaitable[object]]) -> None:
    """Run these calls concurrently. All have ended when the first error is raised."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failure = next((answer for answer in answers if isinstance(answer, BaseException)), None)
    if failure is not None:
        try:
            raise failure
        finally:
            del answers, failure  # with them, the error and this function's frame would be a cycle


async def together(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run these calls concurrently. All have ended when it returns or raises."""
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)
