"""`deploy/redis-users.acl`: the rights of the service and of a publisher, tried on a real Redis."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from django_bridge.conf import Settings as BridgeSettings
from django_bridge.payload import Payload
from django_bridge.publisher.redis import RedisTransport
from notifier import task
from tests.stream_reader import StreamReader
from tests.support import ADMIN_KEY, REPOSITORY, Process, Service, free_port, running

DEPLOY = REPOSITORY / "deploy"


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[int]:
    """A Redis under the shipped ACL file; its users' passwords are their names."""
    lines = []
    for line in (DEPLOY / "redis-users.acl").read_text().splitlines():
        name = line.split()[1]
        digest = hashlib.sha256(name.encode()).hexdigest()
        lines.append(line if name == "default" else f"{line} #{digest}")
    lines.append("user admin on nopass ~* &* +@all")
    (tmp_path / "users.acl").write_text("\n".join(lines) + "\n")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = Process([*command, "--aclfile", str(tmp_path / "users.acl")])

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(_as(port, "admin").ping())
        return False

    process.wait_until(answers, "redis-server")
    yield port
    process.stop()


def _as(port: int, user: str) -> redis.Redis:
    return redis.Redis(port=port, username=user, password=user)


def test_service_and_publisher_do_everything_with_the_rights_of_the_acl_file(guarded_redis: int) -> None:
    publisher = RedisTransport(BridgeSettings(redis_url=f"redis://publisher:publisher@127.0.0.1:{guarded_redis}/0"))
    url = f"redis://notifier:notifier@127.0.0.1:{guarded_redis}/0"
    with running(Service(redis_url=url, workers=2)) as service, service.client(ADMIN_KEY) as api:
        reader = StreamReader(service.url, "ann")
        reader.next("hello")
        _everything_by_http(service, api, reader)
        _everything_by_the_bridge(publisher, reader)
        assert api.get("/v1/users/ann/presence").json()["online"] is True
        assert api.post("/v1/users/ann/disconnect").status_code == 200
        assert reader.next("bye")[1]["reason"] == "revoked"
        assert api.delete("/v1/users/ann").is_success
        reader.close()
        # After that, the service must load the scripts again, by EVAL.
        _as(guarded_redis, "admin").script_flush()
        assert api.post("/v1/messages", json={"to": ["all"], "subject": "After"}).status_code == 200
    publisher.close()
    assert _as(guarded_redis, "admin").acl_log() == []


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


def _everything_by_the_bridge(publisher: RedisTransport, reader: StreamReader) -> None:
    payload: Payload = {
        "id": uuid4().hex,
        "to": ["user:ann", "group:staff"],
        "subject": "By the bridge",
        "text": "",
        "from": None,
        "level": "info",
        "url": None,
        "data": {},
        "sent_at": None,
        "expires_at": None,
    }
    for attempt in publisher.message(payload):
        attempt(20.0)
    assert reader.next("message")[1]["subject"] == "By the bridge"
    begun = task.begin(
        to=("user:ann",), name="By the bridge", state="", total=2, task_id=None, now_ms=int(time.time() * 1000)
    )
    publisher.create_task(begun, uuid4().hex)(20.0)
    assert publisher.change_task(begun.id, {"advance": 1}, uuid4().hex)(20.0).done == 1
    while reader.next("task")[1]["id"] != begun.id:
        pass


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
def test_the_publisher_may_do_nothing_else(guarded_redis: int, command: tuple[Any, ...]) -> None:
    with pytest.raises(redis.RedisError, match=r"(?i)permission|user executing the script can't"):
        _as(guarded_redis, "publisher").execute_command(*command)


def test_no_user_can_log_in_without_a_password(tmp_path: Path) -> None:
    """The shipped file has no passwords: only users who were given one can log in."""
    text = (DEPLOY / "redis-users.acl").read_text()
    assert "user default off" in text
    assert "nopass" not in text
    assert not re.search(r"\s[>#]", text)


def test_the_acl_allows_the_commands_that_the_service_uses_and_no_others() -> None:
    broker = REPOSITORY / "notifier" / "broker"
    scripts = "".join(path.read_text() for path in broker.rglob("*.lua"))
    code = "".join(path.read_text() for path in broker.rglob("*.py"))
    arguments, errors = {"BYSCORE", "COUNT", "LIMIT", "MAXLEN", "MINID", "WITHSCORES"}, {"ERR", "WRONGTYPE"}
    used = set(re.findall(r"'([A-Z]{3,})'", scripts)) - arguments - errors
    used |= {
        f"{name}|{part}" if part else name
        for name, part in re.findall(r'(?:call|send)\((?:[\w.]+, )?"([A-Z]+)"(?:, "([A-Z]+)")?', code)
    }
    used |= set(re.findall(r'^ +\("([A-Z]+)", ', code, re.MULTILINE))  # of several that are sent at once
    # With HELLO; and in a cluster, announcements are sharded.
    used |= {"AUTH", "CLIENT|SETNAME", "PING", "PUBSUB|NUMSUB", "PUBSUB|SHARDNUMSUB", "PUBLISH", "SPUBLISH"}
    used |= {"SUBSCRIBE", "UNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"}
    used -= {"PUBSUB"}
    line = next(line for line in (DEPLOY / "redis-users.acl").read_text().splitlines() if "user notifier" in line)
    assert {word[1:].upper() for word in line.split() if word.startswith("+")} == used
