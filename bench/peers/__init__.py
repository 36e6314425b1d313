"""The servers under measurement, each behind the same few methods.

A peer is started on loopback with the settings that its documentation recommends for many streams, as one process if
possible. Works that a peer cannot do (`targets`, `batch`, `resumes`) are left out of the table, not simulated.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.system import REPOSITORY, Process, accepts, free_port

ALL = "all"
"""The channel of every stream."""
SOME = "some"
"""A channel that only some streams listen to."""


def user(number: int) -> str:
    """The channel of one user."""
    return f"u{number}"


class Peer(ABC):
    """One server. `folder` is its own, and empty."""

    name: ClassVar[str]
    marker: ClassVar[str] = "event-stream"
    """The bytes by which a stream is recognised as open. Default: part of the answer's head."""
    targets: ClassVar[bool] = True
    """True if it has more than one channel."""
    fast: ClassVar[bool] = True
    """True if it is measured at rates that only fast servers reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.publish_port = self.port
        self.processes: list[Process] = []
        self.ready_s = 0.0

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it serves."""

    @abstractmethod
    def stream_path(self, number: int, channel: str) -> str:
        """Path of a stream of the user with this number on `channel`."""

    @abstractmethod
    def publish_request(self, channel: str, text: str) -> bytes:
        """The HTTP request that publishes to a channel."""

    def stream_request(self, number: int, channel: str, **headers: str) -> bytes:
        return request("GET", self.stream_path(number, channel), headers={"Accept": "text/event-stream", **headers})

    def cpu_s(self) -> float:
        return sum(process.cpu_s() for process in self.processes)

    def memory_kib(self) -> float:
        return sum(process.memory_kib() for process in self.processes)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def _run(self, command: list[str | Path], *, env: dict[str, str] | None = None, cwd: Path = REPOSITORY) -> Process:
        started = Process(command, self.folder, env=env, cwd=cwd)
        self.processes.append(started)
        return started

    def _listens(self) -> bool:
        return accepts(self.port)

    def _opens_a_stream(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            try:
                probe.connect(("127.0.0.1", self.port))
                probe.sendall(self.stream_request(0, "probe"))
                return probe.recv(100).startswith(b"HTTP/1.1 200")
            except OSError:
                return False


def request(method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> bytes:
    """An HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if method == "POST":
        lines.append(f"Content-Length: {len(body.encode())}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def json_request(path: str, body: object, headers: dict[str, str] | None = None) -> bytes:
    return request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
