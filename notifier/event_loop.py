"""The event loop of the service: asyncio's own, over a selector that returns at most `MAX_READY` sockets at a time.

asyncio handles every socket that is ready before it looks at its timers, so that a reconnect storm would hold the
streams up for as long as all of its requests take. What the selector leaves out is returned by the next call: the
kernel keeps the ready sockets in a queue. A call also allocates room for all that it may return; for every stream of
the process, that costs more than the call.

Must not know: what a socket carries.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import sys
from typing import Final

MAX_READY: Final = 32
"""Sockets returned by one call of the selector."""

_BOTH: Final = selectors.EVENT_READ | selectors.EVENT_WRITE
_EVENTS: Final = {1: selectors.EVENT_READ, 4: selectors.EVENT_WRITE, 5: _BOTH}
"""The selector's events of a mask of epoll (`EPOLLIN`, `EPOLLOUT`, both)."""


def new_loop() -> asyncio.AbstractEventLoop:
    """asyncio's loop over a `PortionSelector`; its default loop where the system has no epoll."""
    if sys.platform != "linux":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(PortionSelector())


class PortionSelector(selectors.DefaultSelector):
    """On Linux `selectors.EpollSelector`, with a bound on what one `select` returns.

    Its two private names are those of Python 3.11 to 3.14.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # In whole milliseconds, rounded up: a timer that is due in a fraction of one must not make the loop spin.
        wait_s = -1 if timeout is None else max(0.0, math.ceil(timeout * 1e3) * 1e-3)
        try:
            polled = self._selector.poll(wait_s, MAX_READY)  # type: ignore[attr-defined]
        except InterruptedError:
            return []
        keys = self._fd_to_key  # type: ignore[attr-defined]
        # A mask that is not in the table has an error or a hang-up: the handlers of both find out which.
        return [
            (key, _EVENTS.get(mask, _BOTH) & key.events) for fd, mask in polled if (key := keys.get(fd)) is not None
        ]
