"""The command `notifier` on an event loop that is watched.

    python watched.py FILE serve ...

A timer is due every 5 ms. Once a second, FILE gets a JSON line: the longest delay of the timer in ms; the longest part
of a delay that the loop's thread spent on the processor, up to 2 ms (the rest is the system's scheduling); and a list
of the delays with a longer part, each with when the timer was due and when it came, on the monotonic clock, and the
thread's CPU time, in seconds. Pauses of the machine (bench/pauses.py) are in that CPU time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

TICK_S = 0.005
LONG_S = 0.002


class WatchedLoop(asyncio.SelectorEventLoop):
    """The loop with its timer."""

    file = Path()

    def run_forever(self) -> None:
        self._begin_second()
        self._begin_tick()
        super().run_forever()

    def _begin_second(self) -> None:
        self._next_report_s = self.time() + 1
        self._delay_s = self._own_delay_s = 0.0
        self._long: list[tuple[float, float, float]] = []

    def _begin_tick(self) -> None:
        self._cpu_s = time.thread_time()
        self._due_s = self.time() + TICK_S
        self.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        came_s, cpu_s = self.time(), time.thread_time() - self._cpu_s
        delay_s = came_s - self._due_s
        self._delay_s = max(self._delay_s, delay_s)
        if min(delay_s, cpu_s) > LONG_S:
            self._long.append((self._due_s, came_s, cpu_s))
        else:
            self._own_delay_s = max(self._own_delay_s, min(delay_s, cpu_s))
        if came_s > self._next_report_s:
            with self.file.open("a") as lines:
                lines.write(json.dumps([1000 * self._delay_s, 1000 * self._own_delay_s, self._long]) + "\n")
            self._begin_second()
        self._begin_tick()


if __name__ == "__main__":
    WatchedLoop.file = Path(sys.argv.pop(1))
    asyncio.SelectorEventLoop = WatchedLoop  # the loop that the service makes
    from notifier.cli import main

    main()
