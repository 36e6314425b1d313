"""The numbers of this process that Prometheus' own clients show too: CPU, memory, open files, start.

What the system does not say is left out. Must not know: how they are shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc/self")


def read() -> Mapping[str, float]:
    """By the name of Prometheus' family without `process_`."""
    numbers: dict[str, float] = {"cpu_seconds_total": sum(os.times()[:2])}
    if sys.platform != "linux":
        return numbers
    import resource  # not on every system

    numbers["max_fds"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        numbers["resident_memory_bytes"] = int((_PROC / "statm").read_text().split()[1]) * resource.getpagesize()
        folder = _PROC / "fd"
        # Since Linux 6.2 its size is their number; listing ten thousand takes milliseconds.
        numbers["open_fds"] = folder.stat().st_size or len(os.listdir(folder))
        numbers["start_time_seconds"] = _start_time_s()
    except (OSError, LookupError, ValueError):
        pass
    return numbers


def _start_time_s() -> float:
    """Unix time of the process's start: of the boot (proc(5), `btime`), and the ticks from then on."""
    ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
