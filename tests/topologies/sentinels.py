"""A primary that fails over by Sentinels."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Final

import redis

from tests.topologies.node import Node, Topology, until_known


class Sentinel(Node):
    """A Sentinel. It keeps what it learns in its configuration file."""

    def _arguments(self) -> list[str]:
        path = self.folder / "sentinel.conf"
        path.touch()
        return [str(path), "--sentinel"]


class SentinelGroup(Topology):
    """A primary, its replica, and three Sentinels, two of which must agree that the primary is down.

    `down_after_s`: how long the primary is silent until then; the default as for `RedisCluster`.
    """

    service: Final = "notifier"

    def __init__(self, kind: str = "redis", *, down_after_s: float = 30, options: Sequence[str] = ()) -> None:
        self._down_after_s = down_after_s
        self.sentinels = [Sentinel(kind) for _ in range(3)]
        super().__init__([Node(kind, options) for _ in range(2)])
        self.start()

    @property
    def url(self) -> str:
        """The service's address of the primary."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    def _join(self) -> None:
        primary, replica = self.nodes
        replica.call("REPLICAOF", "127.0.0.1", primary.port)
        until_known(lambda: replica.has_its_primarys_data, "the replica")
        for sentinel in self.sentinels:
            sentinel.start()
            # Every second, not every 10: how soon a Sentinel sees that a server has another role. A Sentinel that stood
            # still for 2 s, as on a busy machine, makes no older primary a replica for 30 s: here for one.
            sentinel.call("SENTINEL", "DEBUG", "info-period", 1000, "tilt-period", 1000)
            self._watch(sentinel, primary)
        self.wait_until_whole()

    def _watch(self, sentinel: Sentinel, primary: Node) -> None:
        """Have a Sentinel that runs watch the primary."""
        sentinel.call("SENTINEL", "MONITOR", self.service, "127.0.0.1", primary.port, 2)
        settings = {"down-after-milliseconds": int(self._down_after_s * 1000), "failover-timeout": 5000}
        for name, value in settings.items():
            sentinel.call("SENTINEL", "SET", self.service, name, value)

    def wait_until_whole(self) -> None:
        """Until every Sentinel that runs knows the others and the primary with its replica in step."""
        until_known(lambda: self._is_whole(), "the Sentinels")

    def _is_whole(self) -> bool:
        primary = self.primary
        watching = [sentinel for sentinel in self.sentinels if sentinel.runs]
        for sentinel in watching:
            raw = sentinel.call("SENTINEL", "MASTER", self.service)
            known = dict(zip(raw[::2], raw[1::2], strict=True))
            replicas = [
                dict(zip(row[::2], row[1::2], strict=True))
                for row in sentinel.call("SENTINEL", "REPLICAS", self.service)
            ]
            in_step = [row for row in replicas if row["flags"] == "slave" and row["master-link-status"] == "ok"]
            if (known["port"], known["flags"]) != (str(primary.port), "master") or len(in_step) != len(self.nodes) - 1:
                return False
            if int(known["num-other-sentinels"]) != len(self.sentinels) - 1:
                return False
        return all(node.has_its_primarys_data for node in self.running if node is not primary)

    @property
    def primary(self) -> Node:
        """The primary, as the first Sentinel that runs knows it."""
        sentinel = next(sentinel for sentinel in self.sentinels if sentinel.runs)
        _, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return next(node for node in self.nodes if node.port == int(port))

    @property
    def replica(self) -> Node:
        """The server that is not the primary."""
        primary = self.primary
        return next(node for node in self.nodes if node is not primary)

    def fail_over(self) -> Node:
        """`SENTINEL FAILOVER`. Returns the new primary; the older becomes its replica soon after."""
        before, asked_at = self.primary, -math.inf

        def is_over() -> bool:
            nonlocal asked_at
            # Refused while no replica was heard of lately; given up after `failover-timeout`, as on a busy machine.
            if self.primary is before and time.monotonic() - asked_at > 12:
                with contextlib.suppress(redis.ResponseError):
                    self.sentinels[0].call("SENTINEL", "FAILOVER", self.service)
                    asked_at = time.monotonic()
            return self.primary is not before and self.primary.is_primary

        until_known(is_over, "another primary")
        return self.primary

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        super().stop()
