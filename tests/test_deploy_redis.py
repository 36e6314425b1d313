"""`deploy/redis-users.acl`: the rights of the service and of a publisher, tried on a real Redis."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from django_bridge.conf import Settings as BridgeSettings
from django_bridge.publisher.redis import RedisTransport
from notifier.broker.redis.keys import Keys
from notifier.errors import NotAllowed
from tests.bridge_calls import TO, call_everything
from tests.stream_reader import StreamReader
from tests.support import ADMIN_KEY, REPOSITORY, RedisServer, Service, running
from tests.topologies import Node, RedisCluster

ACL = (REPOSITORY / "deploy" / "redis-users.acl").read_text()


@pytest.fixture
def guarded_redis() -> Iterator[RedisServer]:
    """A Redis under the shipped ACL file; its users' passwords are their names."""
    with running(RedisServer(guarded=True)) as server:
        yield server


def publisher_of(server: RedisServer) -> RedisTransport:
    return RedisTransport(BridgeSettings(redis_url=server.url_of("publisher")))


def refused(*servers: RedisServer | Node) -> list[object]:
    """The commands that they have refused to a user."""
    objects: list[object] = []
    for server in servers:
        with contextlib.closing(server.client()) as admin:
            objects += [row["object"] for row in admin.acl_log()]
    return objects


@dataclass(frozen=True)
class Guarded:
    """Servers under the rights of the shipped ACL file."""

    servers: Sequence[RedisServer | Node]
    url: str
    """The address, with `{user}` for the login."""
    prefix: str = "notifier:"
    shards: int = 1

    def url_of(self, user: str) -> str:
        return self.url.format(user=f"{user}:{user}@")


@contextlib.contextmanager
def guarded_cluster(cluster: RedisCluster) -> Iterator[Guarded]:
    """A shared cluster, with the users of the ACL file for a prefix of their own, as docs/redis.md says."""
    prefix = f"t{uuid4().hex[:8]}:"
    users = {words[1]: words[2:] for words in map(str.split, ACL.splitlines()) if words[1] != "default"}
    cluster.each("ACL", "LOG", "RESET")
    for user, rules in users.items():
        cluster.each("ACL", "SETUSER", user, *(rule.replace("notifier:", prefix) for rule in rules), f">{user}")
    yield Guarded(cluster.nodes, cluster.url.replace("://", "://{user}"), prefix, 12)
    for user in users:
        cluster.each("ACL", "DELUSER", user)


@pytest.fixture(params=["one", "several", "valkey_cluster"])
def guarded(request: pytest.FixtureRequest, guarded_redis: RedisServer) -> Iterator[Guarded]:
    url = f"redis://{{user}}127.0.0.1:{guarded_redis.port}/0"
    if request.param == "one":
        yield Guarded([guarded_redis], url)
    elif request.param == "several":
        with running(RedisServer(guarded=True)) as other:
            yield Guarded([guarded_redis, other], f"{url},redis://{{user}}127.0.0.1:{other.port}/0", shards=2)
    else:
        with guarded_cluster(request.getfixturevalue(request.param)) as servers:
            yield servers


def test_service_and_publisher_do_everything_with_the_rights_of_the_acl_file(guarded: Guarded) -> None:
    """Valkey 9 also knows CLIENT SETINFO, which no user may call."""
    bridge = BridgeSettings(redis_url=guarded.url_of("publisher"), prefix=guarded.prefix, shards=guarded.shards)
    env = {"NOTIFIER_PREFIX": guarded.prefix, "NOTIFIER_SHARDS": str(guarded.shards)}
    with (
        running(Service(redis_url=guarded.url_of("notifier"), workers=2, env=env)) as service,
        service.client(ADMIN_KEY) as api,
        contextlib.closing(RedisTransport(bridge)) as publisher,
    ):
        reader = StreamReader(service.url, "ann")
        reader.next("hello")
        _everything_by_http(service, api, reader)
        call_everything(publisher)
        for name in ("message", "order.paid", "task.output"):
            reader.next(name)
        assert api.get("/v1/users/ann/presence").json()["online"] is True
        assert api.post("/v1/users/ann/disconnect").status_code == 200
        assert reader.next("bye")[1]["reason"] == "revoked"
        assert api.delete("/v1/users/ann").is_success
        reader.close()
        # After that, the service must load the scripts again, by EVAL.
        for server in guarded.servers:
            with contextlib.closing(server.client()) as admin:
                admin.script_flush()
        assert api.post("/v1/messages", json={"to": ["all"], "subject": "After"}).status_code == 200
    assert refused(*guarded.servers) == []


def _everything_by_http(service: Service, api: httpx.Client, reader: StreamReader) -> None:
    for _ in range(2):
        body = {"to": ["user:ann", "all"], "subject": "By HTTP"}
        sent = api.post("/v1/messages", json=body, headers={"Idempotency-Key": "first"})
        assert sent.status_code == 200, sent.text
    identity = sent.json()["id"]
    assert reader.next("message")[1]["id"] == identity
    assert api.post("/v1/events", json={"to": ["all"], "type": "passing", "durable": False}).status_code == 200
    reader.next("passing")
    began = api.post("/v1/tasks", json={"to": ["user:ann"], "name": "By HTTP", "total": 2}).json()
    step = {"json": {"advance": 1}, "headers": {"Idempotency-Key": "second"}}
    for _ in range(2):
        assert api.patch(f"/v1/tasks/{began['id']}", **step).json()["done"] == 1
    reader.next("task")
    with service.user("ann") as ann:
        assert ann.get("/v1/inbox").json()["messages"][0]["id"] == identity
        assert ann.post("/v1/inbox/read", json={"ids": [identity]}).json() == {"unread": 0}
        assert ann.post("/v1/inbox/read", json={"all": True}).status_code == 200
        assert ann.delete(f"/v1/inbox/{identity}").status_code == 200
        assert ann.post(f"/v1/tasks/{began['id']}/cancel").status_code == 200
        assert api.patch(f"/v1/tasks/{began['id']}", json={"status": "cancelled"}).status_code == 200
        assert ann.get("/v1/tasks").json()["tasks"][0]["status"] == "cancelled"
        assert ann.delete(f"/v1/tasks/{began['id']}").status_code == 204
        assert ann.get("/v1/inbox/unread").json() == {"unread": 0}
        cursor = ann.get("/v1/cursor").json()["cursor"]
    again = StreamReader(service.url, "ann", **{"Last-Event-ID": cursor})
    assert again.next("hello")[1]["recovered"] is True
    again.close()


def test_the_rights_of_a_publisher_are_enough_to_quarantine_foreign_values(guarded_redis: RedisServer) -> None:
    keys, task_id, channel = Keys(), uuid4().hex, TO[0]
    of_shard = [keys.seq(0), keys.epoch(0), keys.floor(0), keys.beats(0), keys.asking(0)]
    of_channel = [keys.log(0, channel), keys.events(0, channel), keys.meta(0, channel), keys.tasks(0, channel)]
    names = [*of_shard, *of_channel, keys.task(0, task_id), keys.output(0, task_id)]
    with contextlib.closing(guarded_redis.client()) as admin:
        for name in names:
            admin.rpush(name, "foreign")
        with contextlib.closing(publisher_of(guarded_redis)) as publisher:
            call_everything(publisher, task_id)
        assert [name for name in names if not admin.exists(f"{name}:foreign")] == []
    assert refused(guarded_redis) == []


def test_a_publisher_reads_neither_inboxes_nor_who_is_there(guarded_redis: RedisServer) -> None:
    with contextlib.closing(publisher_of(guarded_redis)) as publisher:
        for attempt in (publisher.presence(["ann"]), publisher.read_states("ann", ["m"])):
            with pytest.raises(NotAllowed, match="permission"):
                attempt(20.0)


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("DEL", "notifier:{0}:read:ann"),
        ("SET", "another", "1"),
        ("PUBLISH", "another", "1"),
        ("SUBSCRIBE", "notifier:{0}:ch:user:ann"),
        ("ZSCORE", "notifier:{0}:read:ann", "*"),
        ("EVAL", "return redis.call('FLUSHALL')", 0),
    ],
)
def test_the_publisher_may_do_nothing_else(guarded_redis: RedisServer, command: tuple[Any, ...]) -> None:
    with (
        contextlib.closing(redis.Redis.from_url(guarded_redis.url_of("publisher"))) as client,
        pytest.raises(redis.RedisError, match=r"(?i)permission|user executing the script can't"),
    ):
        client.execute_command(*command)


def test_no_user_can_log_in_without_a_password() -> None:
    """The shipped file has no passwords: only users who were given one can log in."""
    assert "user default off" in ACL
    assert "nopass" not in ACL
    assert not re.search(r"\s[>#]", ACL)


SCRIPTS = REPOSITORY / "notifier" / "broker" / "redis" / "lua"
# With HELLO; and in a cluster, announcements are sharded.
BY_BOTH = {"AUTH", "CLIENT|SETNAME", "PING", "PUBLISH", "SPUBLISH"}


def granted(user: str) -> set[str]:
    line = next(line for line in ACL.splitlines() if f"user {user} " in line)
    return {word[1:].upper() for word in line.split() if word.startswith("+")}


def called_by(scripts: str) -> set[str]:
    """The commands of the scripts that a pattern names."""
    code = "".join(path.read_text() for path in SCRIPTS.glob(f"{scripts}.lua"))
    return set(re.findall(r"'([A-Z]{3,})'", code)) - NO_COMMANDS


NO_COMMANDS = {"BYSCORE", "COUNT", "LIMIT", "MAXLEN", "MINID", "WITHSCORES", "ERR", "WRONGTYPE"}


def test_the_acl_allows_the_commands_that_the_service_uses_and_no_others() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "notifier" / "broker").rglob("*.py"))
    used = called_by("*") | BY_BOTH
    used |= {
        f"{name}|{part}" if part else name
        for name, part in re.findall(r'(?:call|send)\((?:[\w.]+, )?"([A-Z]+)"(?:, "([A-Z]+)")?', code)
    }
    used |= set(re.findall(r'^ +\("([A-Z]+)", ', code, re.MULTILINE))  # of several that are sent at once
    used |= {"PUBSUB|NUMSUB", "PUBSUB|SHARDNUMSUB", "SUBSCRIBE", "UNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"}
    used -= {"PUBSUB"}
    assert granted("notifier") == used


def test_the_acl_allows_a_publisher_the_commands_that_the_bridge_uses_and_no_others() -> None:
    """Apart from those of the calls that need the service's rights."""
    code = "".join(path.read_text() for path in (REPOSITORY / "django_bridge" / "publisher").glob("redis*.py"))
    own = {name.upper() for name in re.findall(r"\b(?:client|calls|reading)\.([a-z]+)\b", code)}
    own |= {
        f"{name}|{part}" if part else name
        for name, part in re.findall(r'execute_command\("([A-Z]+)"(?:, "([A-Z]+)")?', code)
    }
    used = own - {"PIPELINE", "EXECUTE", "PUBSUB"} | BY_BOTH | {"HELLO", "SELECT"}
    for script in ("shared", "left", "publish", "task", "output", "retract", "correct", "repair"):
        used |= called_by(script)
    assert granted("publisher") == used | {"ZREMRANGEBYRANK"}, "which bridges of version 0.1 use"
