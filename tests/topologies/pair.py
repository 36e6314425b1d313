"""A primary with its replica, without Sentinels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from tests.topologies.node import READY_S, Node, Topology


class Pair(Topology):
    """Two servers: `primary` and `replica`."""

    def __init__(self, kind: str = "redis") -> None:
        super().__init__([Node(kind), Node(kind)])
        self.primary, self.replica = self.nodes
        self.start()

    def _join(self) -> None:
        self.replica.call("REPLICAOF", "127.0.0.1", self.primary.port)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Until the replica confirms a write."""
        deadline = time.monotonic() + READY_S
        with contextlib.closing(self.primary.client()) as client:
            while not (client.set("whole", "") and client.wait(1, 500)):
                assert time.monotonic() < deadline, "the replica confirms nothing"

    @contextlib.contextmanager
    def without_replica(self) -> Iterator[None]:
        """The replica hangs, and is in step again afterwards."""
        self.replica.pause()
        try:
            yield
        finally:
            self.replica.resume()
            self.wait_until_whole()
