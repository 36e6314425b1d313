"""The load program (`load.c`) as an object: streams that count events, requests at a rate.

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
"""The start of an event's text: space for the time at which it is sent, and its number."""


def stamped(number: int, size: int = 200) -> str:
    """The text of an event of `size` bytes."""
    stamp = STAMP.format(number)
    return stamp + "x" * max(0, size - len(stamp))


class Load:
    """One load program. `folder` gets the files that it reads."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self._folder = folder
        self._child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._requests = folder / f"requests-{self._child.pid}"

    def lower_priority(self) -> None:
        """Run only while no other process needs the processor, so that the load does not disturb what is measured."""
        os.sched_setscheduler(self._child.pid, os.SCHED_IDLE, os.sched_param(0))

    def open(
        self, requests: Iterable[bytes], port: int, *, marker: str, at_once: int = 100, timeout_s: float = 120
    ) -> dict[str, Any]:
        """Open a stream for each request; each is live when `marker` arrives. Returns `opened`, `failed`, `seconds`."""
        word = marker.replace(" ", "~").replace("\n", "^")
        self._write(requests)
        answer = self._ask(f"open {self._requests} {port} {at_once} {timeout_s} {word}")
        self._requests.unlink()
        return answer

    def zero(self) -> None:
        """Reset the counters."""
        self._ask("zero")

    def expect(self, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait for so many events since `zero`. Returns `events`, `disorder`, `p50_ms`, `p99_ms`, `p999_ms`..."""
        return self._ask(f"expect {count} {timeout_s}")

    def counts(self) -> list[tuple[int, int, int]]:
        """For each stream: events, the sum of their numbers, the number of events out of order."""
        file = self._folder / f"counts-{self._child.pid}"
        self._ask(f"dump {file}")
        return list(struct.iter_unpack("<QQQ", file.read_bytes()))

    def cut(self) -> None:
        """Close all streams."""
        self._ask("cut")

    def send_begin(
        self, requests: Iterable[bytes], port: int, *, connections: int = 8, per_s: float = 0, timeout_s: float = 120,
        kind: str = "http",
    ) -> None:  # fmt: skip
        """Begin to send; `send_end` waits for the end."""
        self._write(requests)
        self._write_line(f"send {self._requests} {port} {connections} {per_s} {timeout_s} {kind}")

    def send_end(self) -> dict[str, Any]:
        """Returns `answered`, `refused`, `first_refusal`, `seconds`, latencies of the answers."""
        answer = self._read_answer()
        self._requests.unlink()
        return answer

    def send(self, requests: Iterable[bytes], port: int, **how: Any) -> dict[str, Any]:
        self.send_begin(requests, port, **how)
        return self.send_end()

    def stop(self) -> None:
        with self._child:  # closes its pipes
            self._child.kill()

    def _write(self, requests: Iterable[bytes]) -> None:
        self._requests.write_bytes(b"".join(struct.pack("<I", len(request)) + request for request in requests))

    def _ask(self, line: str) -> dict[str, Any]:
        self._write_line(line)
        return self._read_answer()

    def _write_line(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def _read_answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        answer: dict[str, Any] = json.loads(self._child.stdout.readline() or '{"error": "the load program ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
