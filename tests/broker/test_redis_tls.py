"""TLS, passwords and ACL users, at Sentinels, at a primary and at a cluster, for all that connects to them."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_bridge import Message, publisher
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.values import History, Options
from tests.broker.support import Recorder, listed, note, until
from tests.certificates import write_certificate
from tests.commands import call, run
from tests.django.conftest import JWT_SECRET
from tests.support import REPOSITORY, free_port, wait_for
from tests.topologies import SLOTS, Node
from tests.topologies.sentinels import Sentinel

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cert.pem`, which is its own authority and names 127.0.0.1, and `key.pem`."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder, "redis of a test")
    return folder


class TlsNode(Node):
    """A server with a TLS port beside its own."""

    def __init__(self, certificate: Path, *options: str) -> None:
        self.tls_port = free_port()
        cert, key = (str(certificate / name) for name in ("cert.pem", "key.pem"))
        tls = ["--tls-port", str(self.tls_port), "--tls-cert-file", cert, "--tls-key-file", key]
        super().__init__("redis", [*tls, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", *options])


class TlsSentinel(TlsNode, Sentinel):
    """The same for a Sentinel."""


def allow(node: Node) -> None:
    """The user `notifier` of deploy/redis-users.acl, with the password `secret`."""
    lines = (REPOSITORY / "deploy" / "redis-users.acl").read_text().splitlines()
    rules = next(line.split()[2:] for line in lines if line.startswith("user notifier "))
    node.call("ACL", "SETUSER", "notifier", *rules, ">secret")


def watch(sentinel: Node, port: int) -> None:
    """A primary that the Sentinel knows, and the user `watcher` of docs/deploy.md, with the password `p@ss`."""
    sentinel.call("SENTINEL", "MONITOR", "main", "127.0.0.1", port, 1)
    rights = ("+ping", "+hello", "+auth", "+client|setname", "+sentinel|masters", "+sentinel|master")
    sentinel.call("ACL", "SETUSER", "watcher", "on", ">p@ss", "-@all", *rights)
    known = ("SENTINEL", "MASTER", "main")
    wait_for(lambda: (row := sentinel.call(*known))[row.index("flags") + 1] == "master", what="the primary")


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """The servers, which end with the module."""
    nodes: list[Node] = []
    yield nodes
    for node in nodes:
        node.stop()


@pytest.fixture(scope="module")
def primary_url(certificate: Path, nodes: list[Node]) -> str:
    node = TlsNode(certificate)
    nodes.append(node)
    node.start()
    allow(node)
    return f"rediss://notifier:secret@127.0.0.1:{node.tls_port}/0?ssl_ca_certs={certificate}/cert.pem"


@pytest.fixture(scope="module")
def sentinel_url(certificate: Path, nodes: list[Node]) -> str:
    """Sentinel and primary have different users."""
    primary = TlsNode(certificate)
    sentinel = TlsSentinel(certificate, "--tls-replication", "yes")
    for node in (primary, sentinel):
        nodes.append(node)
        node.start()
    allow(primary)
    watch(sentinel, primary.tls_port)
    options = f"ssl_ca_certs={certificate}/cert.pem&sentinel_username=watcher&sentinel_password=p%40ss"
    return f"rediss+sentinel://notifier:secret@127.0.0.1:{sentinel.tls_port}/main/0?{options}"


@pytest.fixture(scope="module")
def cluster_url(certificate: Path, nodes: list[Node]) -> str:
    bus = ("--cluster-port", str(free_port()), "--tls-cluster", "yes")
    node = TlsNode(certificate, "--cluster-enabled", "yes", *bus)
    nodes.append(node)
    node.start()
    node.call("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    wait_for(lambda: node.fields("CLUSTER", "INFO")["cluster_state"] == "ok", what="the cluster")
    allow(node)
    return f"rediss+cluster://notifier:secret@127.0.0.1:{node.tls_port}?ssl_ca_certs={certificate}/cert.pem"


@pytest.fixture(params=["primary", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(f"{request.param}_url")
    return address


def refused(nodes: list[Node]) -> list[str]:
    """The commands that these servers have refused to a user."""
    rows = [row for node in nodes for row in node.call("ACL", "LOG")]
    return [row[row.index("object") + 1] for row in rows]


@pytest.fixture
def nothing_denied(url: str, nodes: list[Node]) -> Iterator[None]:
    """No server refuses a command to a user."""
    for node in nodes:
        node.call("ACL", "LOG", "RESET")
    yield
    assert refused(nodes) == []


@contextlib.asynccontextmanager
async def broker_at(url: str) -> AsyncIterator[tuple[RedisBroker, Recorder]]:
    sink = Recorder()
    limits: dict[str, Any] = {"history": History(50, 50, 3600), "max_replay": 100}
    broker = RedisBroker.from_url(url, Options(prefix=f"notifier:{uuid.uuid4().hex[:8]}:", shards=1, **limits))
    await broker.start(sink)
    try:
        yield broker, sink
    finally:
        await broker.close()


@pytest.mark.usefixtures("nothing_denied")
async def test_the_service_publishes_and_receives_over_tls_as_its_user(url: str) -> None:
    async with broker_at(url) as (broker, sink):
        await until(lambda: broker.ready, 20)
        await broker.subscribe(broker.topics("ann", ["user:ann"]))
        await broker.publish(note())
        await until(lambda: sink.events)
        assert [subject for subject, _ in await listed(broker)] == ["Hi"]


async def test_a_server_whose_authority_is_unknown_is_not_used(url: str) -> None:
    stranger = url.partition("?")[0] + ("?" + url.partition("&")[2] if "&" in url else "")
    async with broker_at(stranger) as (broker, _):
        assert not broker.ready


@pytest.mark.usefixtures("nothing_denied")
@pytest.mark.parametrize("shards", [1, 12])
def test_the_bridge_publishes_over_tls_as_its_user(url: str, shards: int) -> None:
    value = {"TRANSPORT": "redis", "REDIS_URL": url, "JWT_SECRET": JWT_SECRET, "SHARDS": shards, "TIMEOUT_S": 20.0}
    with override_settings(NOTIFIER={**value, "PREFIX": f"notifier:{uuid.uuid4().hex[:8]}:"}):
        Message(to_users=list(range(1, 7)), subject="to each").send()
        assert publisher.current().counts.failed == 0


def test_check_broker_asks_the_servers_over_tls_as_its_user(url: str) -> None:
    done = run("check-broker", url)
    assert " role: primary" in done.stdout, done
    assert "secret" not in json.dumps([done.stdout, done.stderr])
    done = run("check-broker", url.replace(":secret@", ":other@"))
    assert (done.returncode, "password" in done.stderr) == (2, True)


async def test_servers_that_know_client_setinfo_refuse_no_command(nodes: list[Node]) -> None:
    """Valkey notes each refused one in its ACL LOG. It has no TLS here."""
    primary, sentinel = servers = [Node("valkey"), Sentinel("valkey")]
    nodes += servers
    for node in servers:
        node.start()
    allow(primary)
    watch(sentinel, primary.port)
    url = f"redis+sentinel://notifier:secret@127.0.0.1:{sentinel.port}/main/0?sentinel_username=watcher"
    url += "&sentinel_password=p%40ss"
    async with broker_at(url) as (broker, _):
        await until(lambda: broker.ready, 20)
        await broker.publish(note())
    assert refused(servers) == []
    for address in (url, f"redis://notifier:secret@127.0.0.1:{primary.port}/0"):
        assert " role: primary" in call("check-broker", address).stdout
    assert set(refused(servers)) == {"config|get"}  # asked for by check-broker, for administrators
