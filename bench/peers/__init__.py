"""The servers under measurement, each behind the same few methods.

A peer is started on loopback with the settings that its documentation recommends for many streams, one process where
it can choose. What a peer cannot do (`targets`, `batch`, `resumes`) is left out of the table, not simulated.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench.system import REPOSITORY, Process, accepts, free_port

ALL = "all"
"""A channel that many hear."""
SOME = "some"
"""Another one, which those of `ALL` do not hear by themselves."""


def user(number: int) -> str:
    """The channel of one user."""
    return f"u{number}"


class Peer(ABC):
    """One server. `folder` is its own, and empty."""

    name: ClassVar[str]
    marker: ClassVar[str] = "event-stream"
    """What a stream has received when it is open. Default: the answer's head."""
    targets: ClassVar[bool] = True
    """Whether it has more than one channel."""
    fast: ClassVar[bool] = True
    """Whether it is measured at rates that only servers of this kind reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.publish_port = self.port
        self.processes: list[Process] = []
        self.ready_s = 0.0

    @abstractmethod
    def start(self) -> None:
        """Starts it and waits until it serves."""

    @abstractmethod
    def stream_path(self, number: int, channel: str) -> str:
        """Path of a stream of the user with this number that hears `channel`."""

    @abstractmethod
    def publish_request(self, channel: str, text: str) -> bytes:
        """The HTTP request that publishes to a channel."""

    def stream_request(self, number: int, channel: str, **headers: str) -> bytes:
        return request("GET", self.stream_path(number, channel), headers={"Accept": "text/event-stream", **headers})

    def cpu_s(self) -> float:
        return sum(one.cpu_s() for one in self.processes)

    def memory_kib(self) -> float:
        return sum(one.memory_kib() for one in self.processes)

    def stop(self) -> None:
        for one in reversed(self.processes):
            one.stop()
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
