"""`deploy/redis-users.acl`: the rights of the service and of a publisher, tried on a real Redis."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
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

DEPLOY = REPOSITORY / "deploy"


@pytest.fixture
def guarded_redis() -> Iterator[RedisServer]:
    """A Redis under the shipped ACL file; its users' passwords are their names."""
    with running(RedisServer(guarded=True)) as server:
        yield server


def publisher_of(server: RedisServer) -> RedisTransport:
    return RedisTransport(BridgeSettings(redis_url=server.url_of("publisher")))


def refused(server: RedisServer) -> list[object]:
    """The commands that it has refused to a user."""
    with contextlib.closing(server.client()) as admin:
        return [row["object"] for row in admin.acl_log()]


def test_service_and_publisher_do_everything_with_the_rights_of_the_acl_file(guarded_redis: RedisServer) -> None:
    with (
        running(Service(redis_url=guarded_redis.url, workers=2)) as service,
        service.client(ADMIN_KEY) as api,
        contextlib.closing(publisher_of(guarded_redis)) as publisher,
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
        with contextlib.closing(guarded_redis.client()) as admin:
            admin.script_flush()
        assert api.post("/v1/messages", json={"to": ["all"], "subject": "After"}).status_code == 200
    assert refused(guarded_redis) == []


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
    again = StreamReader(service.url, "ann", **{"Last-Event-ID": sent.json()["cursor"]})
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
    text = (DEPLOY / "redis-users.acl").read_text()
    assert "user default off" in text
    assert "nopass" not in text
    assert not re.search(r"\s[>#]", text)


SCRIPTS = REPOSITORY / "notifier" / "broker" / "redis" / "lua"
# With HELLO; and in a cluster, announcements are sharded.
BY_BOTH = {"AUTH", "CLIENT|SETNAME", "PING", "PUBLISH", "SPUBLISH"}


def granted(user: str) -> set[str]:
    line = next(line for line in (DEPLOY / "redis-users.acl").read_text().splitlines() if f"user {user} " in line)
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
