"""A cluster: which server has a slot, slots that move, replicas that take over."""

from __future__ import annotations

import binascii
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from tests.support import free_port
from tests.topologies.node import Node, Topology, until_known

SLOTS: Final = 16384
VOTES_AGAIN_MS: Final = 4000
"""After a manual failover: until its shard can have another."""


def slot_of(key: str) -> int:
    """The slot of a key: CRC16 of what stands between its first braces, or of all of it."""
    _, _, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return binascii.crc_hqx((tag if end and tag else key).encode(), 0) % SLOTS


class RedisCluster(Topology):
    """Three primaries with a third of the slots each, and a replica of each: `nodes` in this order at the start.

    `node_timeout_s`: how long a primary is silent until its replica takes over. The default is so long that a busy
    machine causes no takeover; cases of a dead primary set it. `announced`: by index, the port that a node names to
    clients in place of its own, from its own.
    """

    def __init__(
        self,
        kind: str = "redis",
        *,
        node_timeout_s: float = 30,
        options: Sequence[str] = (),
        announced: Mapping[int, Callable[[int], int]] | None = None,
    ) -> None:
        self._node_timeout_ms = int(node_timeout_s * 1000)
        # Nodes find each other in a time that grows with this timeout.
        common = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        # A slot without a server is no reason for the other shards to refuse.
        common += ["--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"]
        common += ["--cluster-replica-validity-factor", "0", *options]
        self._bus_ports = [free_port() for _ in range(6)]
        nodes = []
        for index, bus_port in enumerate(self._bus_ports):
            own = ["--cluster-port", str(bus_port)]
            node = Node(kind, [*common, *own])
            if announced and index in announced:
                node.options += ["--cluster-announce-port", str(announced[index](node.port))]
            nodes.append(node)
        super().__init__(nodes)
        self.start()

    @property
    def url(self) -> str:
        """The service's address of the cluster."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _join(self) -> None:
        for index, node in enumerate(self.nodes):
            node.id = node.call("CLUSTER", "MYID")
            node.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if index < 3:
                node.call("CLUSTER", "ADDSLOTSRANGE", SLOTS * index // 3, SLOTS * (index + 1) // 3 - 1)
            for other, bus_port in zip(self.nodes[:index], self._bus_ports, strict=False):
                node.call("CLUSTER", "MEET", "127.0.0.1", other.port, bus_port)
        until_known(
            lambda: all(self._known_to(node) >= {other.id for other in self.nodes} for node in self.nodes), "six nodes"
        )
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.call("CLUSTER", "REPLICATE", primary.id)
        self.wait_until_whole()
        self.each("CONFIG", "SET", "cluster-node-timeout", self._node_timeout_ms)

    @staticmethod
    def _known_to(node: Node) -> set[str]:
        return {line.split()[0] for line in node.call("CLUSTER", "NODES").splitlines() if "handshake" not in line}

    def wait_until_whole(self) -> None:
        """Until every server that runs says that all slots are served, and every replica has its primary's data."""
        until_known(lambda: all(self._is_whole_for(node) for node in self.running), "the whole cluster")

    @staticmethod
    def _is_whole_for(node: Node) -> bool:
        info = node.fields("CLUSTER", "INFO")
        whole = info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS)
        replicas = [replica for *_, replicas in _ranges(node) for replica in replicas]
        return whole and len(replicas) >= 3 and (node.is_primary or node.has_its_primarys_data)

    def _node(self, node_id: str) -> Node:
        return next(node for node in self.nodes if node.id == node_id)

    def primary_of(self, slot: int) -> Node:
        """The server of a slot, as the first server that runs knows it."""
        owner = _owner(self.running[0], slot)
        assert owner, f"no server has the slot {slot}"
        return self._node(owner)

    def replica_of(self, node: Node) -> Node:
        """The running replica of a primary."""
        return next(other for other in self.running if f"slave {node.id}" in _own_line(other))

    def wait_for_owner(self, slot: int, owner: Node) -> None:
        until_known(lambda: self._has_owner(slot, owner), f"the slot {slot} at its owner")

    def _has_owner(self, slot: int, owner: Node) -> bool:
        return all(_owner(node, slot) == owner.id for node in self.running)

    def other_primary(self, node: Node) -> Node:
        """A primary that is not this server."""
        return next(other for other in self.primaries if other is not node)

    def begin_move(self, slot: int, target: Node) -> Move:
        """The first half of a classic move: source and target know of it, and no key has moved."""
        source = self.primary_of(slot)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        return Move(self, slot, source, target)

    def move(self, slot: int, target: Node) -> None:
        """Move a slot with its keys, key by key as `redis-cli --cluster reshard` does."""
        self.begin_move(slot, target).finish()

    def move_atomically(self, slot: int, target: Node) -> None:
        """Move a slot in one step (Valkey 9)."""
        self.primary_of(slot).call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        self.wait_for_owner(slot, target)

    def fail_over(self, slot: int) -> Node:
        """A manual failover: the replica of a slot's primary takes over without loss. Returns the new primary.

        Redis' nodes do not vote for a replica of the same primary again within two node timeouts: that would let the
        failover fail, and stop the primary's writes for its 5 s."""
        replica = self.replica_of(self.primary_of(slot))
        asked_at = -math.inf

        def is_over() -> bool:
            nonlocal asked_at
            # Redis gives up after 5 s, for which a busy machine may have no time.
            if not replica.is_primary and time.monotonic() - asked_at > 6:
                replica.call("CLUSTER", "FAILOVER")
                asked_at = time.monotonic()
            return self._has_owner(slot, replica)

        self.each("CONFIG", "SET", "cluster-node-timeout", VOTES_AGAIN_MS // 2)
        until_known(is_over, "the failover")
        self.each("CONFIG", "SET", "cluster-node-timeout", self._node_timeout_ms)
        return replica


def _ranges(node: Node) -> Iterator[tuple[int, int, str, list[str]]]:
    """The slots as a server knows them: first, last, the primary's id, those of its replicas."""
    for first, last, primary, *replicas in node.call("CLUSTER", "SLOTS"):
        yield first, last, primary[2], [replica[2] for replica in replicas]


def _owner(node: Node, slot: int) -> str:
    return next((primary for first, last, primary, _ in _ranges(node) if first <= slot <= last), "")


def _own_line(node: Node) -> str:
    """A server's own line in CLUSTER NODES."""
    return next(line for line in node.call("CLUSTER", "NODES").splitlines() if "myself" in line)


class Move:
    """A slot on its way from one primary to another: keys lie at both, and calls of several keys are refused."""

    def __init__(self, cluster: RedisCluster, slot: int, source: Node, target: Node) -> None:
        self._cluster = cluster
        self._slot = slot
        self._source = source
        self._target = target

    def keys(self) -> list[str]:
        """Keys that have not moved yet: a thousand at most."""
        keys: list[str] = self._source.call("CLUSTER", "GETKEYSINSLOT", self._slot, 1000)
        return keys

    def carry(self, keys: Collection[str]) -> None:
        """Move these keys."""
        self._source.call("MIGRATE", "127.0.0.1", self._target.port, "", 0, 5000, "KEYS", *keys)

    def finish(self) -> None:
        """Move the other keys, and give the slot to the target."""
        while keys := self.keys():
            self.carry(keys)
        for node in (self._target, self._source):
            node.call("CLUSTER", "SETSLOT", self._slot, "NODE", self._target.id)
        self._cluster.wait_for_owner(self._slot, self._target)

    def give_up(self) -> None:
        """Leave the slot to the source, where no key has moved yet."""
        for node in (self._source, self._target):
            node.call("CLUSTER", "SETSLOT", self._slot, "STABLE")
