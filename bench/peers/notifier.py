"""The service itself: on its embedded broker, or on a Redis of its own, with one worker or several."""

from __future__ import annotations

import json
import os
import secrets
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jwt
import redis

from bench.peers import ALL, SOME, Peer, json_request, user
from bench.system import HERE, REPOSITORY, Process, accepts, free_port

KEY, SECRET = secrets.token_hex(16), secrets.token_hex(32)
"""Credentials of servers that run for a minute."""


class Servers(Protocol):
    """The Redis behind the service."""

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def cpu_s(self) -> float: ...
    def memory_bytes(self) -> int: ...


class Notifier(Peer):
    """`notifier serve` on the embedded broker."""

    name: ClassVar[str] = "notifier"
    marker: ClassVar[str] = "event: hello"

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        servers: Servers | None = None,
        checkout: Path = REPOSITORY,
        program: Sequence[str | Path] = ("-m", "notifier"),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.workers = workers
        self._program = program
        """What Python runs: the command `notifier`, or a program around it."""
        self._settings = settings or {}
        self.checkout = checkout
        """The folder whose version is run, with its own `.venv` if it has one."""
        self.redis = servers
        self._ends = int(time.time()) + 86_400

    def start(self) -> None:
        if self.redis is not None:
            self.redis.start()
        command: list[str | Path] = [_python(self.checkout), *self._program, "serve"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.workers > 1:
            command += ["--workers", str(self.workers)]
        env = {
            "NOTIFIER_API_KEYS": KEY,
            "NOTIFIER_JWT_SECRET": SECRET,
            "NOTIFIER_REDIS_URL": self.redis.url if self.redis else "",
            # Limits against abuse, which one address with thousands of streams would exceed.
            "NOTIFIER_MAX_STREAMS_PER_ADDRESS": "100000",
            "NOTIFIER_MAX_STREAMS_PER_USER": "100000",
            "NOTIFIER_PUBLISH_RATE": "1000000",
            "NOTIFIER_DRAIN_S": "0.5",
            **self._settings,
        }
        server = self._run(command, env=env, cwd=self.checkout)
        self.ready_s = server.wait_until(self._is_ready)

    def stop(self) -> None:
        super().stop()
        if self.redis is not None:
            self.redis.stop()

    def _is_ready(self) -> bool:
        if self.processes[0].output().count("Application startup complete") < self.workers:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stream_path(self, number: int, channel: str) -> str:
        return "/v1/stream"

    def stream_request(self, number: int, channel: str, **headers: str) -> bytes:
        claims = {
            "aud": "notifier:stream",
            "sub": user(number),
            "exp": self._ends,
            "groups": [SOME] if channel == SOME else [],
        }
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        return super().stream_request(number, channel, Authorization=f"Bearer {token}", **headers)

    def request_with_groups(self, number: int, groups: int) -> bytes:
        """A stream that also listens to so many groups, which no other stream has."""
        claims = {"aud": "notifier:stream", "sub": user(number), "exp": self._ends}
        token = jwt.encode({**claims, "groups": [f"g{number}-{i}" for i in range(groups)]}, SECRET, algorithm="HS256")
        return super().stream_request(number, user(number), Authorization=f"Bearer {token}")

    def publish_request(self, channel: str, text: str) -> bytes:
        body = {"to": [_channel(channel)], "type": "bench", "data": text}
        return json_request("/v1/events", body, {"Authorization": f"Bearer {KEY}"})

    def batch_request(self, items: list[tuple[str, str]]) -> bytes:
        """Many events (channel, text) in one request."""
        body = [{"kind": "event", "to": [_channel(to)], "type": "bench", "data": text} for to, text in items]
        return json_request("/v1/batch", body, {"Authorization": f"Bearer {KEY}"})


class NotifierOnRedis(Notifier):
    """The same, with every event through a Redis."""

    name: ClassVar[str] = "notifier, Redis"

    redis: Redis

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, servers=Redis(folder), **options)


@contextmanager
def running(**settings: str) -> Iterator[Notifier]:
    """The service with these settings."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Notifier(Path(folder), settings=settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _channel(name: str) -> str:
    return {ALL: ALL, SOME: f"group:{SOME}"}.get(name, f"user:{name}")


class Redis:
    """A Redis server without persistence."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        # The load program connects from several loopback addresses; protected mode allows one.
        command += ["--protected-mode", "no"]
        self.process = Process([*command, "--dir", str(self._folder)], self._folder)
        self.process.wait_until(lambda: accepts(self.port))

    def memory_bytes(self) -> int:
        """The memory of its data."""
        with redis.Redis(port=self.port) as client:
            return int(client.info("memory")["used_memory"])

    def publish_requests(self, items: list[tuple[str, str]], checkout: Path = REPOSITORY) -> list[bytes]:
        """The commands that publish these events (channel, text) by a checkout's script, which is loaded."""
        events = json.dumps([(_channel(to), text) for to, text in items])
        command = [_python(checkout), str(HERE / "peers" / "apps" / "redis_calls.py")]
        env = {**os.environ, "PYTHONPATH": str(checkout)}
        records = _records(
            subprocess.run(command, input=events.encode(), env=env, capture_output=True, check=True).stdout
        )
        with redis.Redis(port=self.port) as client:
            client.script_load(records[0])
        return records[1:]

    def cpu_s(self) -> float:
        return self.process.cpu_s() if self.process else 0.0

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


def _records(data: bytes) -> list[bytes]:
    records, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        records.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return records


def _python(checkout: Path) -> str:
    """The Python that runs a checkout: its own one, since versions can need other packages."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if checkout != REPOSITORY and own.exists() else sys.executable
