"""The service on its other brokers: a file, a primary with Sentinels, a cluster, several primaries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from bench.peers.notifier import Notifier
from bench.system import REPOSITORY, cpu_s_of
from tests.topologies import Node, RedisCluster, SentinelGroup, Topology


class NotifierOnFile(Notifier):
    """Each call is answered when it is on the disk."""

    name: ClassVar[str] = "notifier, SQLite"

    def __init__(self, folder: Path, *, checkout: Path = REPOSITORY) -> None:
        url = f"sqlite://{folder}/notifier.db"
        super().__init__(folder, checkout=checkout, settings={"NOTIFIER_BROKER_URL": url})


class Primaries(Topology):
    """Three servers that know nothing of each other."""

    def __init__(self) -> None:
        super().__init__([Node("redis") for _ in range(3)])
        self.start()

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)


class Servers:
    """What is measured of several servers: CPU and memory of all together."""

    def __init__(self, make: Callable[[], SentinelGroup | RedisCluster | Primaries]) -> None:
        self._make = make
        self._running: SentinelGroup | RedisCluster | Primaries | None = None

    @property
    def url(self) -> str:
        assert self._running is not None
        return self._running.url

    def start(self) -> None:
        self._running = self._make()

    def cpu_s(self) -> float:
        return sum(cpu_s_of(node.pid) for node in self._nodes)

    def memory_bytes(self) -> int:
        return sum(int(node.call("INFO", "memory")["used_memory"]) for node in self._nodes)

    @property
    def _nodes(self) -> list[Node]:
        return self._running.nodes if self._running is not None else []

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()


class NotifierOnServers(Notifier):
    """The service with several servers of its own."""

    make: ClassVar[Callable[[], SentinelGroup | RedisCluster | Primaries]]
    shards: ClassVar[int] = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, servers=Servers(type(self).make), settings={"NOTIFIER_SHARDS": str(self.shards)})


class NotifierOnSentinels(NotifierOnServers):
    """A primary with a replica and three Sentinels."""

    name = "notifier, Sentinel"
    make = SentinelGroup


class NotifierOnOneShard(NotifierOnServers):
    """Three primaries with a replica each, of which one primary has all keys."""

    name = "notifier, cluster, 1 shard"
    make = RedisCluster


class NotifierOnCluster(NotifierOnOneShard):
    """Three primaries with a replica each, and four shards on each."""

    name = "notifier, cluster, 12 shards"
    shards = 12


class NotifierOnPrimaries(NotifierOnServers):
    """Three primaries, one shard each."""

    name = "notifier, 3 primaries"
    make = Primaries
