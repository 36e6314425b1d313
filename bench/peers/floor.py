"""The lower bounds: one send() per stream in C; the shortest publish, connect, path from Redis and event for all in
Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from bench.peers import Peer, json_request, request
from bench.peers.notifier import Redis, Servers
from bench.system import HERE


class Floor(Peer):
    """`floor.c`."""

    name: ClassVar[str] = "floor (C, one send each)"
    targets: ClassVar[bool] = False

    def __init__(self, folder: Path, program: Path) -> None:
        super().__init__(folder)
        self._program = program

    def start(self) -> None:
        server = self._run([self._program, str(self.port)])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return "/"

    def publish_request(self, channel: str, text: str) -> bytes:
        return request("POST", "/", text)


class BareHttp(Peer):
    """`apps/bare_http.py`: asyncio's Protocol, httptools and json, and nothing checked."""

    name: ClassVar[str] = "bare (asyncio, httptools, json)"

    def start(self) -> None:
        server = self._run([sys.executable, HERE / "peers" / "apps" / "bare_http.py", str(self.port)])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return f"/{channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        return json_request("/", {"to": [channel], "type": "bench", "data": text})


class BareRedis(Peer):
    """`apps/bare_redis.py`: reads pub/sub with hiredis, writes to transports, and does nothing else."""

    name: ClassVar[str] = "bare (hiredis to transports)"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.redis = Redis(folder)

    def start(self) -> None:
        self.redis.start()
        app = HERE / "peers" / "apps" / "bare_redis.py"
        server = self._run([sys.executable, app, str(self.port), str(self.redis.port)])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return f"/user:{channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        raise TypeError("it takes events from Redis")

    def stop(self) -> None:
        super().stop()
        self.redis.stop()


class BareShards(Peer):
    """`apps/bare_shards.py`: one call for each shard of a cluster, on connections of their own."""

    name: ClassVar[str] = "bare (hiredis to each shard)"

    def __init__(self, folder: Path, servers: Servers, shards: int) -> None:
        super().__init__(folder)
        self.redis = servers
        self._shards = shards

    def start(self) -> None:
        app = [sys.executable, "-m", "bench.peers.apps.bare_shards"]
        server = self._run([*app, str(self.port), self.redis.url, str(self._shards)])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return "/"

    def publish_request(self, channel: str, text: str) -> bytes:
        return json_request("/", {"data": text})
