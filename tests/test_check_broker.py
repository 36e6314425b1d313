"""`notifier check-broker`: what weakens a promise is named, with a fix that works."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from notifier.check import check_broker
from notifier.check.redis import _MISSING, CALLS, WAITING
from notifier.check.result import Result
from notifier.settings import load
from tests.commands import call, refused, run
from tests.redis_configuration import EVERY, REPLICATED, options
from tests.support import REPOSITORY, RedisServer, Service, free_port, running
from tests.topologies import Node, RedisCluster, SentinelGroup

pytestmark = pytest.mark.slow

SAFE = options(EVERY, REPLICATED)


def results(url: str, **settings: Any) -> dict[str, Result]:
    """By name; of several servers, the first: the primary before its replicas."""
    by_name: dict[str, Result] = {}
    for result in check_broker(load(broker_url=url, **settings)):
        by_name.setdefault(result.name, result)
    return by_name


def all_weak(url: str, **settings: Any) -> list[Result]:
    return [result for result in check_broker(load(broker_url=url, **settings)) if result.verdict == "weakens"]


def weak(url: str) -> set[str]:
    return {result.name for result in all_weak(url)}


def apply(result: Result, node: Node, *, has_file: bool = False) -> list[str]:
    """Do what a fix says. The settings that it names."""
    commands = [shlex.split(command) for command in result.fix.partition("; ")[0].split(", ")]
    assert commands[-1] == ["CONFIG", "REWRITE"]
    for command in commands if has_file else commands[:-1]:
        node.call(*command)
    return [setting for *_, setting, _ in commands[:-1]]


class FromFile(Node):
    """A server with a configuration file."""

    def _arguments(self) -> list[str]:
        path = self.folder / "server.conf"
        path.touch()
        return [str(path)]


# Embedded


def test_memory_promises_nothing_after_a_restart() -> None:
    done = run("check-broker", "memory:")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.fullmatch(r"weakens +memory: persistence: a restart forgets .*\. Fix: .*\n", done.stdout)


def test_json_has_the_same_checks_in_one_object() -> None:
    done = call("check-broker", "memory:", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert {(check["name"], check["verdict"]) for check in report["checks"]} == {("persistence", "weakens")}


def test_a_file_keeps_all_promises_also_while_the_service_has_it(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/notifier.db"
    assert call("check-broker", url).returncode == 0
    with running(Service(env={"NOTIFIER_BROKER_URL": url})):
        done = call("check-broker", NOTIFIER_BROKER_URL=url)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 4


def test_the_synchronous_mode_of_the_settings_is_judged(tmp_path: Path) -> None:
    done = call("check-broker", f"sqlite://{tmp_path}/notifier.db", NOTIFIER_SQLITE_SYNCHRONOUS="normal")
    assert done.returncode == 1
    assert "Fix: NOTIFIER_SQLITE_SYNCHRONOUS=full" in done.stdout


def test_a_file_that_the_service_would_refuse_cannot_be_asked(tmp_path: Path) -> None:
    assert "does not exist" in refused("check-broker", f"sqlite://{tmp_path}/no/notifier.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE a (b)")
    assert "another program" in refused("check-broker", f"sqlite://{tmp_path}/other.db")
    (tmp_path / "text.db").write_text("no database" * 100)
    assert "cannot be read" in refused("check-broker", f"sqlite://{tmp_path}/text.db")
    assert "NOTIFIER_BROKER_URL" in refused("check-broker", "sqlite://relative.db")


# Redis


@pytest.fixture(scope="module")
def safe_redis() -> Iterator[FromFile]:
    with running(FromFile("redis")) as server:
        server.start()
        for command in ("maxmemory 1gb", "appendonly yes", "appendfsync always"):
            server.call("CONFIG", "SET", *command.split())
        server.call("CONFIG", "REWRITE")
        yield server


@pytest.mark.programs
def test_a_redis_that_keeps_all_promises_is_well(safe_redis: FromFile) -> None:
    done = call("check-broker", safe_redis.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(line.startswith(f"ok       127.0.0.1:{safe_redis.port} ") for line in lines)
    assert len(lines) == 8


@pytest.mark.programs
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("eviction", {"maxmemory-policy": "allkeys-lru"}),
        ("persistence", {"appendonly": "no"}),
        ("persistence", {"appendonly": "no", "appendfsync": "everysec"}),
        ("persistence", {"appendfsync": "everysec"}),
        ("persistence", {"appendfsync": "no"}),
        ("buffer", {"client-output-buffer-limit": "pubsub 1mb 0 0"}),
        ("idle", {"timeout": 3}),
    ],
)
def test_a_setting_that_weakens_a_promise_is_named_and_its_fix_outlives_a_restart(
    safe_redis: FromFile, name: str, settings: dict[str, str | int]
) -> None:
    for setting, value in settings.items():
        safe_redis.call("CONFIG", "SET", setting, value)
    try:
        assert weak(safe_redis.url) == {name}
        fixed = apply(results(safe_redis.url)[name], safe_redis, has_file=True)
        assert set(fixed) == set(settings), "the wrong settings alone"
    finally:
        safe_redis.kill()
        safe_redis.start()
    assert weak(safe_redis.url) == set()


@pytest.mark.programs
def test_a_replica_is_named_with_its_primary(safe_redis: FromFile) -> None:
    with running(RedisServer()) as replica, replica.client() as client:
        client.replicaof("127.0.0.1", safe_redis.port)
        assert results(replica.url)["role"].fix == f"use 127.0.0.1:{safe_redis.port}"
        client.replicaof("NO", "ONE")


@pytest.mark.programs
def test_fewer_replicas_than_the_service_waits_for_are_named(safe_redis: FromFile) -> None:
    assert "replicas" not in results(safe_redis.url)
    judged = results(safe_redis.url, redis_wait_replicas=1)["replicas"]
    assert (judged.verdict, judged.seen) == (
        "weakens",
        "0 connected, NOTIFIER_REDIS_WAIT_REPLICAS 1: every write is answered 503",
    )


@pytest.mark.programs
def test_a_user_with_the_rights_of_the_service_sees_less_and_missing_rights_are_named() -> None:
    with running(RedisServer(append_only=True, guarded=True)) as server, server.client() as client:
        done = call("check-broker", server.url)
        assert done.returncode == 2, done.stdout
        assert "notifier:notifier" not in done.stdout
        assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok", "unknown"}
        client.execute_command("ACL", "SETUSER", "notifier", "-xadd", "-spublish")
        rights = results(server.url)["rights"]
        assert rights.verdict == "weakens"
        assert "may not call SPUBLISH, XADD" in rights.seen
        client.execute_command("ACL", "SETUSER", "notifier", "+xadd", "+spublish", "resetkeys", "~other:*")
        assert "GET" in results(server.url)["rights"].seen
        client.execute_command("ACL", "SETUSER", "notifier", "resetkeys", "~notifier:*", "-wait")
        assert results(server.url)["rights"].verdict == "ok"
        assert "may not call WAIT" in results(server.url, redis_wait_replicas=1)["rights"].seen
        assert "password" in refused("check-broker", server.url.replace("notifier@", "wrong@"))


@pytest.mark.programs
def test_a_server_that_cannot_say_what_a_user_may_call_is_judged_in_all_else(
    safe_redis: FromFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis before 7.0, whose scripts have no `acl_check_cmd`; others refuse EVAL."""
    script = _MISSING.replace("acl_check_cmd", "acl_check_cmd_of_a_later_version")
    monkeypatch.setattr("notifier.check.redis._MISSING", script)
    judged = results(safe_redis.url)
    rights = judged.pop("rights")
    assert (rights.verdict, "may call" in rights.seen) == ("unknown", True)
    assert {"version", "role", "persistence"} <= judged.keys()
    assert {result.verdict for result in judged.values()} == {"ok"}


def test_the_rights_that_are_checked_are_those_of_the_acl_file() -> None:
    lines = (REPOSITORY / "deploy" / "redis-users.acl").read_text().splitlines()
    granted = {word[1:] for word in next(line for line in lines if "user notifier" in line).split() if word[0] == "+"}
    checked = set()
    for command, *arguments in (row.lower().split() for row in [*CALLS, "CLUSTER SLOTS", WAITING]):
        checked.add(f"{command}|{arguments[0]}" if command in ("client", "cluster", "pubsub") else command)
    assert checked == granted


@pytest.mark.programs
def test_where_no_server_answers_the_exit_code_says_so() -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in refused("check-broker", f"redis://user:secret@127.0.0.1:{port}/0")
    assert f"127.0.0.1:{port}" in refused("check-broker", f"redis+cluster://127.0.0.1:{port}")
    assert "shop" in refused("check-broker", f"redis+sentinel://127.0.0.1:{port}/shop")
    assert "must start with one of" in refused("check-broker", "mysql://a")


# More than one server


@pytest.mark.programs
def test_each_of_several_primaries_is_asked(safe_redis: FromFile, redis_server: RedisServer) -> None:
    done = call("check-broker", f"{safe_redis.url},{redis_server.url}")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("weakens")] == [
        f"127.0.0.1:{redis_server.port}"
    ]


@pytest.mark.programs
def test_every_primary_of_a_cluster_and_its_replicas_are_asked_from_any_node() -> None:
    with running(RedisCluster("valkey", options=SAFE, node_timeout_s=5)) as cluster:
        url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{cluster.nodes[4].port}"
        done = call("check-broker", url)
        assert done.returncode == 0, done.stdout
        servers = {line.split()[1] for line in done.stdout.splitlines()}
        assert servers == {f"127.0.0.1:{node.port}" for node in cluster.nodes}
        assert done.stdout.count(" role: primary") == len(cluster.primaries)
        cluster.each("CONFIG", "SET", "cluster-require-full-coverage", "yes")
        cluster.each("CONFIG", "SET", "min-replicas-to-write", "0")
        cluster.each("CONFIG", "SET", "cluster-node-timeout", "20000")
        weakened = all_weak(url)
        nodes = {f"127.0.0.1:{node.port}": node for node in cluster.nodes}
        names = ("coverage", "replicas", "takeover")
        assert {(result.server, result.name) for result in weakened} == {(at, name) for at in nodes for name in names}
        for result in weakened:
            apply(result, nodes[result.server])
        assert weak(url) == set()
        cluster.nodes[4].call("CONFIG", "SET", "appendfsync", "no")
        (result,) = (result for result in check_broker(load(broker_url=url)) if "appendfsync no" in result.seen)
        assert (result.server, result.verdict) == (f"127.0.0.1:{cluster.nodes[4].port}", "weakens")


@pytest.mark.programs
def test_the_primary_that_the_sentinels_know_its_replica_and_they_themselves_are_asked() -> None:
    with running(SentinelGroup(options=SAFE, down_after_s=5)) as group:
        done = call("check-broker", group.url)
        assert done.returncode == 0, done.stdout
        assert f"127.0.0.1:{group.primary.port} role: primary" in done.stdout
        assert "3 Sentinels, quorum 2" in done.stdout
        for wrong in (
            ["min-replicas-to-write"],
            ["min-replicas-max-lag"],
            ["min-replicas-to-write", "min-replicas-max-lag"],
        ):
            for setting in wrong:
                group.primary.call("CONFIG", "SET", setting, 0)
            assert weak(group.url) == {"replicas"}
            assert apply(results(group.url)["replicas"], group.primary) == wrong
        assert weak(group.url) == set()
        group.sentinels[0].kill()
        for sentinel in group.sentinels[1:]:
            sentinel.call("SENTINEL", "SET", group.service, "down-after-milliseconds", 60000)
        assert weak(group.url) == {"takeover"}
        command = results(group.url)["takeover"].fix.removeprefix("at each Sentinel: ")
        for sentinel in group.sentinels[1:]:
            sentinel.call(*command.split())
        assert weak(group.url) == set()
        assert results(group.url, redis_wait_replicas=1)["replicas"].verdict == "ok"
        assert results(group.url, redis_wait_replicas=2)["replicas"].verdict == "weakens"
        replica = group.replica
        replica.call("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "allkeys-lru", "maxmemory", 10**9)
        replica.call("CONFIG", "SET", "min-replicas-to-write", 0, "min-replicas-max-lag", 0, "timeout", 3)
        replica.call("ACL", "SETUSER", "default", "-xadd")  # replicas have users of their own
        weakened = all_weak(group.url)
        assert {result.server for result in weakened} == {f"127.0.0.1:{replica.port}"}
        names = ["eviction", "persistence", "replicas", "idle", "rights"]
        assert [result.name for result in weakened] == names
        waiting = all_weak(group.url, redis_wait_replicas=1)
        assert [result.name for result in waiting] == [name for name in names if name != "replicas"]
        for result in weakened[:-1]:
            apply(result, replica)
        assert weak(group.url) == {"rights"}
        replica.call("CONFIG", "SET", "requirepass", "of-another-user")
        (unknown,) = (result for result in check_broker(load(broker_url=group.url)) if result.verdict == "unknown")
        assert (unknown.server, unknown.name) == (f"127.0.0.1:{replica.port}", "replica")
