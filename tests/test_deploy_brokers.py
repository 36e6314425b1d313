"""The configuration of Redis or Valkey in docs/deploy.md, and the users in docs/redis.md, on real servers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import pytest
import redis

from tests.commands import call
from tests.pasted import Document
from tests.redis_configuration import EVERY, PAGE, REPLICATED, options
from tests.stream_reader import StreamReader
from tests.support import Service, running, users_with_passwords, wait_for
from tests.topologies import KINDS, Node, RedisCluster, SentinelGroup
from tests.topologies.sentinels import Sentinel

pytestmark = [pytest.mark.programs, pytest.mark.slow]

USERS: Final = Document("docs/redis.md")
SENTINEL: Final = PAGE.block("conf", "sentinel monitor")
CLUSTER: Final = PAGE.block("conf", "cluster-enabled")
SOON: Final = PAGE.block("sh", "SENTINEL DEBUG")
"""A Sentinel's times, which no file keeps."""
COMMON: Final = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
"""A replica is there soon."""


def environment(words: str, places: Mapping[str, int]) -> dict[str, str]:
    """The service's environment in the page, with the servers in use here. `places`: a port by the page's address."""
    block = PAGE.block("sh", words)
    for address, port in places.items():
        assert address in block
        block = block.replace(address, f"127.0.0.1:{port}")
    return dict(line.split("=", 1) for line in block.splitlines())


class Sentinels(SentinelGroup):
    """As the page says. With `guarded`, also the users of docs/redis.md; `default` is off, and each password is the
    user's name."""

    def __init__(self, kind: str, *, guarded: bool = False) -> None:
        self._guarded = guarded
        super().__init__(kind)

    def start(self) -> None:
        text = SENTINEL.replace("10.0.0.1 6379", f"127.0.0.1 {self.nodes[0].port}")
        for node in self.nodes:
            node.options = [*COMMON, *options(EVERY, REPLICATED)]
        if self._guarded:
            text += f"sentinel auth-user {self.service} sentinel\nsentinel auth-pass {self.service} sentinel\n"
            for node in self.nodes:
                _guard(node)
        for sentinel in self.sentinels:
            (sentinel.folder / "sentinel.conf").write_text(text)
        super().start()

    def _watch(self, sentinel: Sentinel, primary: Node) -> None:
        subprocess.run(["sh", "-euc", SOON.replace("26379", str(sentinel.port))], check=True, capture_output=True)


def _guard(node: Node) -> None:
    servers = [line.replace(">...", f">{line.split()[1]}") for line in USERS.block("conf", "user replica").splitlines()]
    path = node.folder / "users.acl"
    path.write_text(users_with_passwords() + "\n".join(servers) + "\n")
    node.options += ["--aclfile", str(path), "--masteruser", "replica", "--masterauth", "replica"]
    node.login = {"username": "admin", "password": "admin"}


class Cluster(RedisCluster):
    """As the page says."""

    def __init__(self, kind: str) -> None:
        (timeout_ms,) = (line.split()[1] for line in CLUSTER.splitlines() if "node-timeout" in line)
        super().__init__(kind, node_timeout_s=int(timeout_ms) / 1000)

    def start(self) -> None:
        for node, bus_port in zip(self.nodes, self._bus_ports, strict=True):
            node.options = [*COMMON, *options(EVERY, REPLICATED, CLUSTER), "--cluster-port", str(bus_port)]
        super().start()


def assert_all_ok(servers: Sequence[Node], **env: str) -> None:
    """Of each of these servers, and of no other that is not a Sentinel."""
    done = call("check-broker", **env)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {verdict for verdict, *_ in lines} == {"ok"}, done.stdout
    assert done.returncode == 0
    seen = {address for _, address, *_ in lines}
    assert {f"127.0.0.1:{node.port}" for node in servers} <= seen
    assert any("identity:" in line for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_as_the_page_says_keeps_all_promises(kind: str) -> None:
    with running(Node(kind, options(EVERY))) as node:
        node.start()
        assert_all_ok([node], NOTIFIER_BROKER_URL=node.url)


OTHER_KIND = [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.full)]


@pytest.mark.parametrize("kind", OTHER_KIND)
def test_sentinels_as_the_page_says_keep_all_promises(kind: str) -> None:
    with running(Sentinels(kind)) as group:
        places = {f"10.0.0.{number}:26379": each.port for number, each in enumerate(group.sentinels, 1)}
        assert_all_ok(group.nodes, **environment("redis+sentinel", places))


@pytest.mark.parametrize("kind", OTHER_KIND)
def test_a_cluster_as_the_page_says_keeps_all_promises(kind: str) -> None:
    with running(Cluster(kind)) as cluster:
        places = {f"10.0.0.{number}:6379": each.port for number, each in enumerate(cluster.nodes[:3], 1)}
        assert_all_ok(cluster.nodes, **environment("redis+cluster", places))


@pytest.mark.parametrize("kind", OTHER_KIND)
def test_a_failover_of_servers_without_the_user_default_needs_only_the_users_of_the_page(kind: str) -> None:
    """The replica, the Sentinels and the service have users of their own."""
    with running(Sentinels(kind, guarded=True)) as group:
        before = group.primary
        with contextlib.closing(redis.Redis(port=before.port)) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        url = group.url.replace("://", "://notifier:notifier@")
        with running(Service(redis_url=url)) as service, service.client() as api:
            body = {"to": ["user:ann"], "subject": "before"}
            assert api.post("/v1/messages", json=body).status_code == 200
            reader = StreamReader(service.url, "ann")
            assert reader.next("hello")
            assert group.fail_over() is not before
            group.wait_until_whole()
            assert not before.is_primary
            body["subject"] = "after"
            wait_for(lambda: api.post("/v1/messages", json=body).status_code == 200, what="the new primary")
            assert reader.next("message")[1]["subject"] == "after"
            reader.close()
        assert [row for node in group.nodes for row in node.call("ACL", "LOG")] == []
