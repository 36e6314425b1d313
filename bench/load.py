"""The load program (`load.c`) as an object: streams that count what comes, requests at a rate.

Must not know: which server is measured.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STAMP = "stamp:" + "0" * 20 + ":{:010d}:"
"""What an event carries: room for the time at which it is sent, and its number."""


def stamped(number: int, size: int = 200) -> str:
    """The text of an event of `size` bytes."""
    stamp = STAMP.format(number)
    return stamp + "x" * max(0, size - len(stamp))


class Load:
    """One load program. `folder` takes the files that are handed to it."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self._folder = folder
        self._files = 0
        self._child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stand_back(self) -> None:
        """Leaves the processor to others that want it, so that it is not its own work that is measured."""
        os.sched_setscheduler(self._child.pid, os.SCHED_IDLE, os.sched_param(0))

    def open(
        self, requests: Iterable[bytes], port: int, *, marker: str, at_once: int = 100, timeout_s: float = 120
    ) -> dict[str, Any]:
        """Opens a stream for each request; each is live when `marker` came. `opened`, `failed`, `seconds`."""
        word = marker.replace(" ", "~").replace("\n", "^")
        return self._ask(f"open {self._write(requests)} {port} {at_once} {timeout_s} {word}")

    def zero(self) -> None:
        """Forgets what was counted."""
        self._ask("zero")

    def expect(self, count: int, timeout_s: float) -> dict[str, Any]:
        """Waits for so many events since `zero`: `events`, `p50_ms`, `p99_ms`, `p999_ms`, `max_ms`, `disorder`, ..."""
        return self._ask(f"expect {count} {timeout_s}")

    def counts(self) -> list[tuple[int, int, int]]:
        """For each stream: events, the sum of their numbers, how many were not in order."""
        file = self._folder / "counts"
        self._ask(f"dump {file}")
        return list(struct.iter_unpack("<QQQ", file.read_bytes()))

    def cut(self) -> None:
        """Closes all streams."""
        self._ask("cut")

    def send_begin(
        self, requests: Iterable[bytes], port: int, *, connections: int = 8, per_s: float = 0, timeout_s: float = 120,
        kind: str = "http",
    ) -> None:  # fmt: skip
        """Begins to send; `send_end` waits for it."""
        self._tell(f"send {self._write(requests)} {port} {connections} {per_s} {timeout_s} {kind}")

    def send_end(self) -> dict[str, Any]:
        """`answered`, `refused`, `first_refusal`, `seconds`, latencies of the answers."""
        return self._hear()

    def send(self, requests: Iterable[bytes], port: int, **how: Any) -> dict[str, Any]:
        self.send_begin(requests, port, **how)
        return self.send_end()

    def stop(self) -> None:
        with self._child:  # closes its pipes
            self._child.kill()

    def _write(self, requests: Iterable[bytes]) -> Path:
        self._files += 1
        file = self._folder / f"requests-{self._child.pid}-{self._files}"
        file.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in requests))
        return file

    def _ask(self, line: str) -> dict[str, Any]:
        self._tell(line)
        return self._hear()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        answer: dict[str, Any] = json.loads(self._child.stdout.readline() or '{"error": "the load program ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
