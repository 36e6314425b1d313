"""The command `notifier` on an event loop that is watched.

    python watched.py FILE serve ...

A timer is due every 5 ms. Once a second, a line of FILE has the longest delay of the timer in ms, and the longest one
that the loop's thread spent on the processor: the rest is the system's scheduling.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

TICK_S = 0.005


class WatchedLoop(asyncio.SelectorEventLoop):
    """The loop with its timer."""

    file = Path()

    def run_forever(self) -> None:
        self._next_report_s = self.time() + 1
        self._delay_s = self._own_delay_s = 0.0
        self._begin_tick()
        super().run_forever()

    def _begin_tick(self) -> None:
        self._cpu_s = time.thread_time()
        self._due_s = self.time() + TICK_S
        self.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        delay_s = self.time() - self._due_s
        self._delay_s = max(self._delay_s, delay_s)
        self._own_delay_s = max(self._own_delay_s, min(delay_s, time.thread_time() - self._cpu_s))
        if self.time() > self._next_report_s:
            with self.file.open("a") as lines:
                lines.write(f"{1000 * self._delay_s:.3f} {1000 * self._own_delay_s:.3f}\n")
            self._next_report_s = self.time() + 1
            self._delay_s = self._own_delay_s = 0.0
        self._begin_tick()


if __name__ == "__main__":
    WatchedLoop.file = Path(sys.argv.pop(1))
    asyncio.SelectorEventLoop = WatchedLoop  # the loop that the service makes
    from notifier.cli import main

    main()
