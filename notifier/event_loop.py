"""The event loop of the service: asyncio's own, over a selector that returns at most `MAX_READY` sockets at a time.

asyncio handles every socket that is ready before it looks at its timers, so that a reconnect storm would hold the
streams up for as long as all of its requests take. What the selector leaves out is returned by the next call: the
kernel keeps the ready sockets in a queue. A call also allocates room for all that it may return; for every stream of
the process, that costs more than the call.

Must not know: what a socket carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import selectors
import sys
from collections.abc import Mapping
from typing import Any, Final

MAX_READY: Final = 32
"""Sockets returned by one call of the selector."""

_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE
_BOTH: Final = _READ | _WRITE


def new_loop() -> asyncio.AbstractEventLoop:
    """asyncio's loop over a `PortionSelector`; its default loop where the system has no epoll."""
    if sys.platform != "linux":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(PortionSelector())


class PortionSelector(selectors.BaseSelector):
    """`selectors.EpollSelector` with a bound on what one `select` returns."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._to_epoll = {_READ: select.EPOLLIN, _WRITE: select.EPOLLOUT, _BOTH: select.EPOLLIN | select.EPOLLOUT}
        self._from_epoll = {mask: events for events, mask in self._to_epoll.items()}
        """Any other mask has an error or a hang-up: the handlers of both find out which."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _fd(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._epoll.register(fd, self._to_epoll[events])
        return self._keep(fileobj, fd, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _fd(fileobj)
        if self._keys[fd].events != events:
            self._epoll.modify(fd, self._to_epoll[events])
        return self._keep(fileobj, fd, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = _fd(fileobj)
        key = self._keys.pop(fd)
        with contextlib.suppress(OSError):  # a socket that was closed before is removed already
            self._epoll.unregister(fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # In whole milliseconds, rounded up: a timer that is due in a fraction of one must not make the loop spin.
        wait_s = -1 if timeout is None else max(0.0, math.ceil(timeout * 1e3) * 1e-3)
        try:
            polled = self._epoll.poll(wait_s, MAX_READY)
        except InterruptedError:
            return []
        keys, from_epoll = self._keys, self._from_epoll
        return [
            (key, from_epoll.get(mask, _BOTH) & key.events) for fd, mask in polled if (key := keys.get(fd)) is not None
        ]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[_fd(fileobj)]

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()

    def _keep(self, fileobj: Any, fd: int, events: int, data: Any) -> selectors.SelectorKey:
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key


def _fd(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
