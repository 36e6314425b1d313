"""Redis: the heartbeats of producers, and the look for silent ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

import pytest
import redis

from notifier import task as tasks
from notifier.asking import asked
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.values import History
from notifier.errors import BrokerUnavailable
from notifier.question import ask
from notifier.stalled import StalledTasks
from tests.broker.support import Recorder
from tests.support import RedisServer

KEYS = Keys(f"notifier:b{uuid.uuid4().hex[:8]}:")


@pytest.fixture
async def broker(redis_server: RedisServer, raw: redis.Redis) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(One(Address.from_url(redis_server.url)), KEYS, history=History(50, 50, 3600), max_replay=100)
    await broker.start(Recorder())
    yield broker
    await broker.close()


async def dead_task(broker: RedisBroker, task_id: str) -> str:
    """A task whose producer sent its last heartbeat a minute ago."""
    ago_ms = int(time.time() * 1000) - 60_000
    await broker.create_task(tasks.begin(to=["user:ann"], name="Import", task_id=task_id, now_ms=ago_ms))
    await broker.change_task(task_id, lambda task: task.changed(tasks.BEAT, now_ms=ago_ms))
    return task_id


async def test_heartbeats_without_a_task_are_removed_and_dead_producers_are_noticed(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    dead = await dead_task(broker, "dead")
    orphans = {f"orphan-{number}": number for number in range(2500)}
    raw.zadd(KEYS.beats(0), {**orphans, b"\xff": 1})
    raw.hset(KEYS.task(0, "orphan-1"), mapping={"version": 1, "record": b"{}"})
    raw.sadd(KEYS.task(0, "orphan-2"), "not ours")
    assert await broker.stalled_tasks(1 << 50) == [dead]
    assert raw.zrange(KEYS.beats(0), 0, -1) == [b"dead"]


async def test_a_forgotten_task_leaves_nothing(broker: RedisBroker, raw: redis.Redis) -> None:
    dead = await dead_task(broker, "dead")
    assert raw.exists(KEYS.beats(0), KEYS.task(0, dead), KEYS.tasks(0, "user:ann")) == 3
    await broker.forget("ann")
    assert not raw.exists(KEYS.beats(0), KEYS.task(0, dead), KEYS.tasks(0, "user:ann"))


@pytest.mark.parametrize("word", ["beats", "task", "tasks"])
async def test_a_key_of_another_type_does_not_end_the_look_for_silent_producers(
    broker: RedisBroker, raw: redis.Redis, word: str
) -> None:
    names = [await dead_task(broker, name) for name in ("first", "second", "third")]
    key = {"beats": KEYS.beats(0), "task": KEYS.task(0, "second"), "tasks": KEYS.tasks(0, "user:ann")}[word]
    raw.delete(key)
    raw.sadd(key, "foreign")
    looks = StalledTasks(broker, stalled_s=1, failed_s=3600)
    await looks._look()
    if word == "beats":
        names = [await dead_task(broker, "fourth")]
        await looks._look()
    due = [name for name in names if (word, name) != ("task", "second")]
    assert [(await broker.task(name)).status for name in due] == ["stalled"] * len(due)  # type: ignore[union-attr]


async def test_a_question_that_an_older_process_wrote_is_answered_by_the_look_for_silent_producers(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    ago_ms = int(time.time() * 1000) - 60_000
    await broker.create_task(tasks.begin(to=["user:ann"], name="Import", task_id="asks", now_ms=ago_ms))
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=1, question_id="q", now_ms=ago_ms)
    await broker.change_task("asks", lambda task: asked(task, question, now_ms=ago_ms))
    assert raw.delete(KEYS.asking(0)) == 1  # an older process does not write this index
    looks = StalledTasks(broker, stalled_s=1, failed_s=3600)
    await looks._answer_late_questions()
    assert (await broker.task("asks")).status == "waiting"  # type: ignore[union-attr]
    await looks._look()
    task = await broker.task("asks")
    assert task is not None
    assert (task.status, [answer.value for answer in task.answers]) == ("running", ["-"])


async def test_a_refused_change_does_not_end_the_look_for_silent_producers(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [await dead_task(broker, name) for name in ("first", "second")]
    change = broker.change_task

    async def refusing(task_id: str, *args: object) -> object:
        if task_id == "first":
            raise BrokerUnavailable("too many concurrent changes")
        return await change(task_id, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(broker, "change_task", refusing)
    await StalledTasks(broker, stalled_s=1, failed_s=3600)._look()
    assert [(await broker.task(name)).status for name in names] == ["running", "stalled"]  # type: ignore[union-attr]
