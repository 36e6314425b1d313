"""Pauses of the whole machine, which the CPU clock of a thread counts as work of that thread.

A virtual machine that its host does not run stands still on all processors at once, and its kernel may not account
that as stolen time. A witness on each processor sleeps for a millisecond at a time and notes when its timer came late.
A busy processor still takes its timers: the witness then waits for the processor, which the kernel counts for each
process, and that wait is no lateness. The machine stood still while the timers of all witnesses were late.

Must not know: what is measured meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.system import Process

Interval = tuple[float, float]
"""Begin and end on the system's monotonic clock (s)."""
SLEEP_S = 0.001
LATE_S = 0.0015
"""A timer that is later than this is noted. A pause is seen by every witness if it is longer by `SLEEP_S`."""


class Witnesses:
    """A witness on each processor that this process may use. Where the system permits it, each has a real-time priority
    above this process': a witness that waits for its processor sees no pause."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[Process] = []

    def start(self) -> None:
        for processor in os.sched_getaffinity(0):
            self._start(processor)
        for process in self.processes:
            process.wait_until(lambda process=process: bool(process.output()))  # type: ignore[misc]

    def _start(self, processor: int) -> None:
        process = Process([sys.executable, "-m", "bench.pauses"], self._folder)
        self.processes.append(process)
        os.sched_setaffinity(process.pid, {processor})
        priority = os.sched_param(os.sched_getparam(0).sched_priority + 1)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(process.pid, os.SCHED_RR, priority)

    def pauses(self) -> list[Interval]:
        """When the machine stood still."""
        return common([_intervals(process.output()) for process in self.processes])

    def stop(self) -> None:
        for process in self.processes:
            process.stop()


def common(late: Sequence[Sequence[Interval]]) -> list[Interval]:
    """The times that lie in an interval of each witness. The intervals of one witness do not overlap."""
    edges = sorted(edge for intervals in late for begin_s, end_s in intervals for edge in ((begin_s, 1), (end_s, -1)))
    shared, depth, since_s = [], 0, 0.0
    for at_s, step in edges:
        if depth == len(late):  # no other can begin: this edge ends an interval
            shared.append((since_s, at_s))
        depth += step
        since_s = at_s
    return shared


def overlap_s(interval: Interval, pauses: Sequence[Interval]) -> float:
    """The part of an interval in which the machine stood still."""
    begin_s, end_s = interval
    return sum(max(0.0, min(end_s, until_s) - max(begin_s, since_s)) for since_s, until_s in pauses)


def _intervals(output: str) -> list[Interval]:
    """Of the lines below the head; what follows the last newline is being written."""
    rows = [line.split() for line in output.split("\n")[1:-1]]
    return [(float(due_s), float(came_s)) for due_s, came_s in rows]


def _witness() -> None:
    """Write a line at the beginning, and one for each timer that was late: when it was due, and when it came."""
    accounts = os.open("/proc/self/schedstat", os.O_RDONLY)

    def waited_s() -> float:
        """How long this process has waited for its processor while it could run."""
        return int(os.pread(accounts, 100, 0).split()[1]) / 1e9

    print("due, came", flush=True)
    woke_s, before_s = time.monotonic(), waited_s()
    while True:
        due_s = woke_s + SLEEP_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        woke_s, after_s = time.monotonic(), waited_s()
        came_s = woke_s - (after_s - before_s)
        before_s = after_s
        if came_s > due_s + LATE_S:
            print(due_s, came_s, flush=True)
            woke_s, before_s = time.monotonic(), waited_s()  # the file system may have kept this process waiting


if __name__ == "__main__":
    _witness()
