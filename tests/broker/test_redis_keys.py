"""Every script names all the keys that it touches: Redis moves a slot key by key, and refuses a call whose keys are on
their way before it runs, but only those that the call names."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from notifier import event as events
from notifier import task as tasks
from notifier.broker.redis import scripts
from notifier.broker.redis.afterwards import MANY_ENTRIES
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import CHUNK, publish_calls, task_call
from notifier.broker.values import Idempotency, Options
from notifier.people import Lease, Person
from tests.broker.conftest import LIMITS
from tests.broker.support import Recorder, new_task, note, opened, step
from tests.support import RedisServer

CHANNELS = ("user:ann", "group:staff", "all")
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
PARTS = {"shared", "reading", "left"}
WITHOUT_KEY = {b"PUBLISH", b"SPUBLISH", b"TIME"}


async def every_call(broker: RedisBroker, raw: redis.Redis) -> None:
    """Calls that run every script, and most of what is in them."""
    key = Idempotency(f"p:{uuid.uuid4().hex}", "a")
    first = await broker.publish(note(["user:ann", "group:staff"]), key)
    await broker.publish(note(["user:ann", "group:staff"]), key)
    await broker.publish(note([f"group:{number}" for number in range(501)]), Idempotency(f"p:{uuid.uuid4().hex}", "a"))
    await broker.publish(events.custom(to=["all"], event_type="passing", data=1, durable=False))
    await broker.publish(events.custom(to=["all", "user:ann"], event_type="kept", data=1))
    task = await broker.create_task(new_task(), Idempotency(f"p:{uuid.uuid4().hex}", "a"))
    await broker.change_task(task.id, step(advance=1), Idempotency(f"p:{uuid.uuid4().hex}", "a"))
    await broker.append_output(task.id, "text", Idempotency(f"p:{uuid.uuid4().hex}", "a"))
    await broker.append_output(task.id, "text")
    await broker.change_task(task.id, step(advance=1))
    await broker.change_task(task.id, lambda stored: stored.changed(tasks.BEAT, now_ms=int(time.time() * 1000) - 1000))
    gone = await broker.create_task(new_task())
    raw.delete(broker._keys.task(0, gone.id))
    for cursor in (None, events.Cursor(first.epoch, first.seq)):
        assert [shown.id for shown in (await opened(broker, cursor)).tasks] == [task.id]
    await broker.open("ann", CHANNELS, events.Cursor(first.epoch, first.seq), portion_bytes=10, continued=True)
    page = await broker.inbox("ann", CHANNELS, limit=10, before=None, unread_only=False)
    await broker.mark("ann", CHANNELS, "read", [page.messages[0]["id"]])
    await broker.mark("ann", CHANNELS, "all", [])
    await broker.mark("ann", CHANNELS, "delete", [page.messages[0]["id"]])
    assert len(await broker.tasks("ann", CHANNELS)) == 1
    assert await broker.stalled_tasks(int(time.time() * 1000)) == [task.id]
    await broker.dismiss_task("ann", task.id)
    assert await broker.tasks("ann", CHANNELS) == []
    await broker.publish(note(id="m1", key="k"))
    await broker.publish(note(id="m2", key="k"))
    await broker.correct("m2", ["user:ann"], lambda frame: frame.replace("Hi", "Ho"))
    await broker.retract("m2", ["user:ann"])
    await broker.lease("topic:t", [Lease("c", Person("ann"), 60)])
    assert len(await broker.people("topic:t")) == 1
    many = {f"{number}": "{}" for number in range(MANY_ENTRIES)}
    await broker.afterwards.note({"ann": many}, ttl_s=60)
    await broker.afterwards.note({"ann": {"a": "new"}}, ttl_s=60, join=lambda _: {"1": "joined"}, joinable=["ann"])
    assert await broker.afterwards.records("ann") == ["joined", "new"]
    assert (await broker.afterwards.trail("ann", "m1", ["user:ann"])).epoch
    await broker.seen({"ann": 1})
    assert await broker.last_seen(["ann"]) == {"ann": 1}
    raw.set(broker._keys.log(0, "user:ann"), "foreign")
    await broker.publish(note())
    await broker.disconnect("ann")
    await broker.forget("ann")


@pytest.fixture
def watched(redis_server: RedisServer) -> Iterator[socket.socket]:
    """A connection that receives every command that Redis runs, also those of scripts."""
    with socket.create_connection(("127.0.0.1", redis_server.port), 10) as connection:
        connection.sendall(b"MONITOR\r\n")
        assert connection.recv(5) == b"+OK\r\n"
        yield connection


def lines_of(connection: socket.socket, end: bytes) -> list[list[bytes]]:
    """The words of each command up to the one that has `end` among its words; those of scripts begin with `lua`."""
    data = b""
    while end not in data:
        data += connection.recv(1 << 20)
    commands = []
    for line in data.split(b"\r\n"):
        is_of_script = line.partition(b"]")[0].endswith(b" lua")
        commands.append(([b"lua"] if is_of_script else []) + WORD.findall(line))
    return commands


async def test_scripts_touch_only_the_keys_that_they_name(redis_server: RedisServer, watched: socket.socket) -> None:
    prefix, end = f"notifier:k{uuid.uuid4().hex[:8]}:", uuid.uuid4().hex.encode()
    broker = RedisBroker.from_url(redis_server.url, Options(prefix=prefix, shards=1, **LIMITS))
    await broker.start(Recorder())
    with redis_server.client() as raw:
        await every_call(broker, raw)
        raw.execute_command("ECHO", end)
    await broker.close()

    folder = Path(scripts.__file__).parent / "lua"
    names = {path.stem for path in folder.glob("*.lua")} - PARTS
    by_sha = {scripts.script(name).sha.encode(): name for name in names}
    ran, undeclared, declared = set(), set(), set[bytes]()
    name = ""
    for words in lines_of(watched, end):
        if words[:1] == [b"EVALSHA"]:
            name = by_sha.get(words[1], "")
        elif words[:1] == [b"lua"] and words[1] not in WITHOUT_KEY:
            keys = words[2:] if words[1] == b"DEL" else words[2:4] if words[1] == b"RENAME" else words[2:3]
            if prefix.encode() in keys[0]:
                ran.add(name)
                undeclared |= {(name, key.replace(prefix.encode(), b"")) for key in keys if key not in declared}
        if words[:1] in ([b"EVALSHA"], [b"EVAL"]):
            declared = set(words[3 : 3 + int(words[2])])
    assert undeclared == set()
    assert ran == names


def test_a_call_names_an_idempotency_key_only_if_it_uses_one() -> None:
    """A node whose slot is moving refuses a call that names an absent key, for as long as the move takes."""
    keys, key = Keys(shards=2), Idempotency("p:1", "a")
    message = note([f"user:{number}" for number in range(2 * CHUNK + 200)])
    without, used = (list(publish_calls(message, keys, history=LIMITS["history"], idempotency=i)) for i in (None, key))
    assert [call.shard for call in used] == [call.shard for call in without] == [0, 0, 1, 1]
    named = [set(call.keys) - set(plain.keys) for call, plain in zip(used, without, strict=True)]
    first, second = ([keys.idempotency(shard, name) for name in ("p:1", f"p:1#{CHUNK}")] for shard in (0, 1))
    assert named == [{first[0]}, set(first), {second[0]}, set(second)]
    assert not [name for call in without for name in call.keys if ":idem:" in name]
    task = new_task()
    calls = [task_call(task, keys, shard=0, expected_version=0, idempotency=i) for i in (None, key)]
    assert set(calls[1].keys) - set(calls[0].keys) == {first[0]}
    assert not [name for name in calls[0].keys if ":idem:" in name or ":output:" in name]
