"""The transport `redis` over Sentinel, a cluster and several primaries: the service has what it writes, also after a
failover or a move."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_bridge import ALL, Message, Task, publisher
from django_bridge.conf_rules import problems
from django_bridge.publisher import redis_places
from django_bridge.publisher.redis import RedisTransport
from django_bridge.publisher.redis_places import RedisPlaces
from django_bridge.publisher.transport import Unreachable
from notifier.broker.redis.keys import Keys, slot_of
from tests.bridge_calls import call_everything
from tests.commands import run
from tests.django.conftest import JWT_SECRET
from tests.support import REPOSITORY, RedisServer, Service, running, wait_for
from tests.topologies import Node, RedisCluster, SentinelGroup

USERS = range(1, 7)
TIMEOUT_S = 5.0
"""Of the tests of hung servers: a question to one takes two fifths of it."""


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"TRANSPORT": "redis", "REDIS_URL": url, "JWT_SECRET": JWT_SECRET, **more}


@pytest.fixture(params=["redis-several", "redis-sentinel", "redis-cluster"])
def topology(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A topology, and settings with keys of their own."""
    more: dict[str, Any] = {"PREFIX": f"t{uuid.uuid4().hex[:8]}:"}
    if request.param == "redis-several":
        with running(RedisServer()) as other:
            yield other, settings(f"{redis_server.url},{other.url}", **more)
    elif request.param == "redis-sentinel":
        group: SentinelGroup = request.getfixturevalue("sentinels")
        yield group, settings(group.url, **more)
    else:
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        yield cluster, settings(cluster.url, SHARDS=12, **more)


@contextlib.contextmanager
def publisher_only(cluster: RedisCluster) -> Iterator[str]:
    """The address of a cluster for the user `publisher` of deploy/redis-users.acl. Fails if a command was refused."""
    lines = (REPOSITORY / "deploy" / "redis-users.acl").read_text().splitlines()
    rules = next(line.split()[2:] for line in lines if line.startswith("user publisher "))
    for node in cluster.nodes:
        node.call("ACL", "LOG", "RESET")
        node.call("ACL", "SETUSER", "publisher", *rules, ">secret")
    yield cluster.url.replace("://", "://publisher:secret@")
    assert [entry for node in cluster.nodes for entry in node.call("ACL", "LOG")] == []


@pytest.mark.programs
@pytest.mark.parametrize("kind", ["redis_cluster", "valkey_cluster"])
def test_in_a_cluster_the_rights_of_a_publisher_are_enough(request: pytest.FixtureRequest, kind: str) -> None:
    """Valkey 9 knows CLIENT SETINFO, which redis-py would send."""
    cluster = request.getfixturevalue(kind)
    # The keys of the ACL file begin with the prefix `notifier:`.
    value = {"SHARDS": 12, "REDIS_WAIT_REPLICAS": 1, "TIMEOUT_S": 20.0}
    with publisher_only(cluster) as url, override_settings(NOTIFIER=settings(url, **value)):
        transport = publisher.current().transport
        assert isinstance(transport, RedisTransport)
        call_everything(transport)


@pytest.mark.slow
def test_nodes_that_do_not_know_their_host_are_reached_at_the_host_that_was_asked(redis_cluster: RedisCluster) -> None:
    """CLUSTER SLOTS names `?` then."""
    redis_cluster.each("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        value = settings(redis_cluster.url, SHARDS=12, PREFIX=f"t{uuid.uuid4().hex[:8]}:", TIMEOUT_S=20.0)
        with override_settings(NOTIFIER=value), running(service_of(value)) as service:
            Message(to_users=list(USERS), subject="to each").send()
            assert [subjects(service, user) for user in USERS] == [["to each"] for _ in USERS]
        assert " role: primary" in run("check-broker", redis_cluster.url).stdout
    finally:
        redis_cluster.each("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


def service_of(value: dict[str, Any]) -> Service:
    """The service on the same Redis."""
    env = {"NOTIFIER_PREFIX": value["PREFIX"], "NOTIFIER_SHARDS": str(value.get("SHARDS", 1))}
    return Service(redis_url=value["REDIS_URL"], env=env)


def subjects(service: Service, user: int) -> list[str]:
    with service.user(str(user)) as client:
        return [message["subject"] for message in client.get("/v1/inbox").json()["messages"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "topology",
    ["redis-several", pytest.param("redis-sentinel", marks=pytest.mark.full), "redis-cluster"],  # Sentinel: one shard
    indirect=True,
)
def test_the_service_has_what_is_written_to_each_shard(topology: tuple[Any, dict[str, Any]]) -> None:
    _, value = topology
    with override_settings(NOTIFIER=value), running(service_of(value)) as service:
        for user in USERS:
            Message(to_users=user, subject=f"to {user}").send()
        Message(to_users=list(USERS), subject="to each").send()
        Message(to_users=ALL, subject="to all").send()
        tasks = [Task(to_users=user, task_name="Import") for user in USERS]
        for task in tasks:
            task.begin(total=2)
            task.advance()
        assert publisher.current().counts.failed == 0
        for user, task in zip(USERS, tasks, strict=True):
            assert subjects(service, user) == ["to all", "to each", f"to {user}"]
            with service.user(str(user)) as client:
                (shown,) = client.get("/v1/tasks").json()["tasks"]
            assert (shown["id"], shown["done"]) == (task.id, 1)
            kept = publisher.current().transport.kept_tasks(f"user:{user}", [task.id for task in tasks])(5.0)
            assert kept.keys() == {task.id for task in tasks}


@pytest.mark.slow
def test_a_move_and_a_failover_are_followed(topology: tuple[Any, dict[str, Any]]) -> None:
    moved, value = topology
    with override_settings(NOTIFIER={**value, "TIMEOUT_S": 20.0}):
        Message(to_users=1, subject="before").send()
        if isinstance(moved, RedisCluster):
            keys = Keys(value["PREFIX"], 12, "sharded")
            slot = slot_of(keys.seq(keys.shard_of_name("1")))
            source = moved.primary_of(slot)
            moved.move(slot, moved.other_primary(source))
        elif isinstance(moved, SentinelGroup):
            moved.fail_over()
            moved.wait_until_whole()  # until then the older primary accepts writes, which it loses
        else:
            moved.kill()
            moved.start()
        Message(to_users=list(USERS), subject="after").send()
        assert publisher.current().counts.failed == 0
        with running(service_of(value)) as service:
            assert all(subjects(service, user)[0] == "after" for user in USERS)
    if isinstance(moved, RedisCluster):
        moved.move(slot, source)
    elif isinstance(moved, SentinelGroup):
        moved.wait_until_whole()


@pytest.mark.programs
@pytest.mark.parametrize("is_lost", [True, False])
def test_a_write_that_the_new_primary_lacks_begins_another_epoch(
    monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """The bridge asks the Sentinels every second. Clients that the service resets before a write to the older primary
    would not learn that it is gone."""
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    epoch_key = Keys(prefix).epoch(0)
    with running(Node("redis")) as older, running(Node("redis")) as newer:
        older.start()
        newer.start()
        primary = [older]
        monkeypatch.setattr(RedisPlaces, "_primary_now", lambda _: ("127.0.0.1", primary[0].port))
        url = "redis+sentinel://127.0.0.1:1/main/0"
        with override_settings(NOTIFIER=settings(url, PREFIX=prefix, TIMEOUT_S=20.0)):
            newer.call("REPLICAOF", "127.0.0.1", older.port)
            wait_for(lambda: newer.has_its_primarys_data, what="the replica")
            Message(to_users=1, subject="before").send()
            wait_for(lambda: newer.call("GET", epoch_key), what="the first message at the replica")
            epoch = newer.call("GET", epoch_key)
            if is_lost:
                newer.call("REPLICAOF", "NO", "ONE")
            Message(to_users=1, subject="to the older primary").send()
            if not is_lost:
                seq = Keys(prefix).seq(0)
                wait_for(lambda: newer.call("GET", seq) == "2", what="the second message at the replica")
                newer.call("REPLICAOF", "NO", "ONE")
            primary[0] = newer
            Message(to_users=1, subject="after").send()
            assert publisher.current().counts.failed == 0
            assert (newer.call("GET", epoch_key) != epoch) == is_lost


def test_a_project_with_other_shards_than_the_service_sends_nothing_and_says_so(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    with override_settings(NOTIFIER=settings(redis_server.url, PREFIX=prefix, SHARDS=3)):
        Message(to_users=1, subject="first").send()
        assert publisher.current().counts.failed == 0
    with override_settings(NOTIFIER=settings(redis_server.url, PREFIX=prefix, SHARDS=2, TIMEOUT_S=0.3)):
        Message(to_users=1, subject="second").send()
        assert publisher.current().counts.failed == 1
    assert "Redis has the shards '3 plain', and this process has '2 plain'" in caplog.text


@pytest.mark.slow
def test_a_project_with_another_mode_than_the_service_sends_nothing_and_says_so(
    redis_cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """With one shard the keys are the same, but the service would not hear the announcements."""
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    node = redis_cluster.primary_of(slot_of(Keys(prefix).layout))
    assert_refused_after(redis_cluster.url, node.url, prefix)
    assert "Redis has the shards '1 sharded', and this process has '1 plain'" in caplog.text
    other = f"t{uuid.uuid4().hex[:8]}:"
    node = redis_cluster.primary_of(slot_of(Keys(other).layout))
    assert_refused_after(node.url, redis_cluster.url, other)
    assert "Redis has the shards '1 plain', and this process has '1 sharded'" in caplog.text


@pytest.mark.slow
def test_a_project_with_another_order_of_several_primaries_sends_nothing_and_says_so(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}:"
    with running(RedisServer()) as other:
        urls = redis_server.url, other.url
        assert_refused_after(",".join(urls), ",".join(reversed(urls)), prefix)
    assert "Redis has the shards '2 several 0', and this process has '2 several 1'" in caplog.text


def assert_refused_after(first: str, second: str, prefix: str) -> None:
    """Send to every shard of an address. The next project, with another address, can send to none of them."""
    with override_settings(NOTIFIER=settings(first, PREFIX=prefix, TIMEOUT_S=20.0)):
        send_to_each_user()
        assert publisher.current().counts.failed == 0
    with override_settings(NOTIFIER=settings(second, PREFIX=prefix, TIMEOUT_S=2.0)):
        send_to_each_user()
        assert publisher.current().counts.sent == 0
        assert publisher.current().counts.failed == len(USERS)


def send_to_each_user() -> None:
    for user in USERS:
        Message(to_users=user, subject="hello").send()


@pytest.mark.slow
def test_a_node_that_hangs_with_the_layout_stops_no_shard_of_another_node(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The layout is on one node. While that does not answer it is asked now and then, not by each call; a project
    with another layout is refused when it has answered."""
    monkeypatch.setattr(redis_places, "CHECK_LAYOUT_EVERY_S", 3600.0)
    keys = Keys(f"t{uuid.uuid4().hex[:8]}:", 12, "sharded")
    hung = redis_cluster.primary_of(slot_of(keys.layout))
    other = redis_cluster.other_primary(hung)
    homes = {user: redis_cluster.primary_of(slot_of(keys.seq(keys.shard_of_name(str(user))))) for user in range(50)}
    users = [user for user, node in homes.items() if node is other]
    hung.call("SET", keys.layout, "6 sharded")
    value = settings(f"redis+cluster://127.0.0.1:{other.port}", PREFIX=keys.prefix, SHARDS=12, TIMEOUT_S=5.0)
    with override_settings(NOTIFIER=value):
        counts = publisher.current().counts
        hung.pause()
        try:
            for user in users:
                Message(to_users=user, subject="while it hangs").send()
            assert (counts.sent, counts.failed) == (len(users), 0)
            assert caplog.text.count("could not be checked") == 1
        finally:
            hung.resume()
        monkeypatch.setattr(redis_places, "CHECK_LAYOUT_EVERY_S", 0.0)
        with pytest.raises(Unreachable, match="Redis has the shards '6 sharded', and this process has '12 sharded'"):
            publisher.current().transport.cursor(str(users[0]))(5.0)  # one attempt


def assert_within_budget(user: int, *, failed: int) -> None:
    """Send a message, which takes no longer than the project allows; so many have failed then."""
    began = time.monotonic()
    Message(to_users=user, subject="while it hangs").send()
    assert time.monotonic() - began < TIMEOUT_S + 2.5
    assert publisher.current().counts.failed == failed


@pytest.mark.slow
def test_a_cluster_whose_first_nodes_hang_costs_no_more_than_the_budget(redis_cluster: RedisCluster) -> None:
    keys = Keys(f"t{uuid.uuid4().hex[:8]}:", 12, "sharded")
    homes = {user: redis_cluster.primary_of(slot_of(keys.seq(keys.shard_of_name(str(user))))) for user in range(50)}
    layout = redis_cluster.primary_of(slot_of(keys.layout))
    hung = redis_cluster.other_primary(layout)
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in (hung, hung, layout))  # whichever is asked first
    value = settings(f"redis+cluster://{hosts}", PREFIX=keys.prefix, SHARDS=12, TIMEOUT_S=TIMEOUT_S)
    with override_settings(NOTIFIER=value):
        hung.pause()
        try:
            assert_within_budget(next(user for user, node in homes.items() if node is not hung), failed=0)
            assert_within_budget(next(user for user, node in homes.items() if node is hung), failed=1)
        finally:
            hung.resume()


@pytest.mark.slow
def test_a_sentinel_that_hangs_costs_no_more_than_the_budget(sentinels: SentinelGroup) -> None:
    value = settings(sentinels.url, PREFIX=f"t{uuid.uuid4().hex[:8]}:", TIMEOUT_S=TIMEOUT_S)
    with override_settings(NOTIFIER=value):
        sentinels.sentinels[0].pause()
        try:
            assert_within_budget(1, failed=0)
        finally:
            sentinels.sentinels[0].resume()
            sentinels.wait_until_whole()


def test_several_addresses_and_another_number_of_shards_are_an_error() -> None:
    value = {"TRANSPORT": "redis", "REDIS_URL": "redis://a,redis://b", "JWT_SECRET": JWT_SECRET}
    assert problems(value) == problems({**value, "SHARDS": 2}) == []
    (problem,) = problems({**value, "SHARDS": 3})
    assert problem.text == (
        "NOTIFIER['SHARDS'] does not fit NOTIFIER['REDIS_URL']: 2 addresses are 2 shards: NOTIFIER_SHARDS is 3."
    )
