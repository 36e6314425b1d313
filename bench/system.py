"""Processes under measurement: start, wait, end; their use of CPU and memory, by the operating system's accounting.

Must not know: what they serve.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
_CPUCLOCK_SCHED = 2
"""The clock of a process' CPU time in nanoseconds (Linux, posix-timers.h); /proc counts it in ticks of 10 ms."""


def build(name: str, folder: Path) -> Path:
    """Compile `bench/<name>.c` with the system's C compiler."""
    program = folder / name
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-std=c11"]
    subprocess.run(["cc", *flags, "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


def allow_many_files() -> int:
    """Raise the limit of open files as far as this machine allows. Returns the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program and its children."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
    ) -> None:
        self.name = Path(command[0]).name
        self._log = (folder / f"{self.name}-{time.monotonic_ns()}.log").open("w+b")
        self.started_at = time.monotonic()
        self._child = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = 120) -> float:
        """Wait until `ready`. Returns the seconds since the start. Raises RuntimeError with the program's output."""
        while not ready():
            over = self._child.poll() is not None
            if over or time.monotonic() > self.started_at + timeout_s:
                raise RuntimeError(f"{self.name} {'ended' if over else 'is not ready'}:\n{self.output()[-2000:]}")
            time.sleep(0.005)
        return time.monotonic() - self.started_at

    def output(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(errors="replace")

    def cpu_s(self) -> float:
        """CPU time of the program and its living children."""
        return sum(cpu_s_of(pid) for pid in tree(self.pid))

    def memory_kib(self) -> float:
        """Proportional set size: shared pages are counted once."""
        return sum(_kib(pid, "Pss:") for pid in tree(self.pid))

    def resident_kib(self) -> float:
        """Resident set size: pages that other processes share are counted in each."""
        return sum(_kib(pid, "Rss:") for pid in tree(self.pid))

    def stop(self) -> None:
        family = tree(self.pid)
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pid in family[1:]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self._log.close()


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return pids


def cpu_s_of(pid: int) -> float:
    """CPU time of one process."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:  # the process has ended
        return 0.0


def _kib(pid: int, field: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def machine() -> dict[str, str | int]:
    """The machine of the run."""
    model = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "cores": os.cpu_count() or 1,
        "processor": model[0] if model else "unknown",
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
    }
