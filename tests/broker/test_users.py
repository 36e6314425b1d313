"""The contract of brokers: disconnecting and forgetting users, hostile names."""

from __future__ import annotations

import asyncio

import pytest

from notifier import task as tasks
from notifier.broker import Broker
from notifier.errors import NotFound
from notifier.event import custom
from tests.broker.support import ANN, Recorder, listed, new_task, note, opened, step, subjects, until


async def test_disconnecting_a_user_reaches_its_topic(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    await broker.disconnect("ann")
    await broker.disconnect("ann", forgotten=True)
    await until(lambda: len(sink.ended) == 2)
    assert sink.ended == [(topics[0], "revoked"), (topics[0], "forgotten")]


async def test_forgetting_a_user_removes_its_data_and_resets_its_cursors(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(["user:ann", "user:bob"], subject="secret"))
    await broker.publish(custom(to=["user:ann"], event_type="secret"))
    await broker.create_task(new_task(["user:ann", "user:bob"]))
    own = await broker.create_task(new_task("user:ann"))
    await broker.forget("ann")
    assert await broker.task(own.id) is None
    assert await listed(broker) == []
    assert not await broker.tasks("ann", ANN)
    assert (await opened(broker, start)).verdict == "history_trimmed"
    assert len(await listed(broker, "bob")) == 1
    assert len(await broker.tasks("bob", ("user:bob",))) == 1
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="new life"))
    await broker.publish(custom(to=["user:ann"], event_type="new.life"))
    assert await listed(broker) == [("new life", False)]
    assert len((await opened(broker, start)).replay) == 2


async def test_forgetting_a_user_resets_also_the_newest_cursor(broker: Broker) -> None:
    await broker.publish(note("all"))
    for user, published in (("ann", 1), ("bob", 0)):
        for _ in range(published):
            await broker.publish(note(f"user:{user}"))
        at_top = (await opened(broker, user=user)).cursor
        await broker.forget(user)
        assert (await opened(broker, at_top, user)).verdict == "history_trimmed"
        after = (await opened(broker, user=user)).cursor
        assert (await opened(broker, after, user)).verdict == "ok"
        await broker.publish(note(f"user:{user}", subject="new life"))
        assert subjects(await opened(broker, after, user)) == ["new life"]


async def test_forgetting_a_user_removes_all_its_tasks_however_many(broker: Broker) -> None:
    own = await asyncio.gather(*(broker.create_task(new_task("user:ann")) for _ in range(450)))
    await broker.forget("ann")
    assert [task for task in await asyncio.gather(*(broker.task(task.id) for task in own)) if task is not None] == []
    for task in own[:3]:
        with pytest.raises(NotFound):
            await broker.change_task(task.id, step(done=1))
    assert not await broker.tasks("ann", ANN)


async def test_a_later_change_does_not_show_a_shared_task_to_a_forgotten_user(broker: Broker) -> None:
    """With three shards, the users' shards and the tasks' homes differ."""
    shared = [await broker.create_task(new_task(["user:ann", "user:bob", "user:eve"])) for _ in range(5)]
    await broker.forget("ann")
    for task in shared:
        changed = await broker.change_task(task.id, step(done=7))
        assert sorted(changed.to) == ["user:bob", "user:eve"]
    assert not await broker.tasks("ann", ANN)
    for user in ("bob", "eve"):
        assert [task.done for task in await broker.tasks(user, (f"user:{user}",))] == [7] * 5


async def test_forgotten_tasks_leave_no_heartbeat(broker: Broker) -> None:
    for to in ("user:ann", "user:bob"):
        await broker.create_task(new_task(to, task_id=f"of-{to[5:]}"))
        await broker.change_task(f"of-{to[5:]}", step(**tasks.BEAT))
    await broker.forget("ann")
    assert list(await broker.stalled_tasks(1 << 50)) == ["of-bob"]


HOSTILE = ["a", "a_b", "a:b", "{a}", "{0}", "*", "?", "a b", "ü", "用户", "[a]", "a\\b", "'", '"', "x" * 128]


async def test_hostile_names_are_distinct(broker: Broker, sink: Recorder) -> None:
    topics = {user: broker.topics(user, [f"user:{user}"])[0] for user in HOSTILE}
    assert len(set(topics.values())) == len(HOSTILE)
    await broker.subscribe(list(topics.values()))
    for user in HOSTILE:
        await broker.publish(note(f"user:{user}", subject=user))
    await until(lambda: len(sink.events) == len(HOSTILE))
    for user in HOSTILE:
        wires = [wire for topic, _, wire in sink.events if topic == topics[user]]
        assert len(wires) == 1
        page = await broker.inbox(user, [f"user:{user}"], limit=5, before=None, unread_only=False)
        assert [message["subject"] for message in page.messages] == [user]
