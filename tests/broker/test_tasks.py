"""The contract of brokers: tasks and the heartbeats of their producers."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier import task as tasks
from notifier.broker import Broker, Idempotency
from notifier.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound
from tests.broker.support import ANN, Recorder, new_task, opened, step, until


async def test_a_task_is_announced_and_kept(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    made = await broker.create_task(new_task(total=4))
    changed = await broker.change_task(made.id, step(done=1, state="reading"))
    assert (changed.percent, changed.version) == (25, 2)
    await until(lambda: len(sink.states) == 2)
    assert [(topic, key) for topic, key, _ in sink.states] == [(topics[0], made.id)] * 2
    assert b'"percent":25' in sink.states[1][2]
    assert await broker.task(made.id) == changed
    assert list((await opened(broker)).tasks) == [changed]


async def test_a_task_that_a_group_and_its_members_watch_is_one_task(broker: Broker) -> None:
    made = await broker.create_task(new_task(["user:ann", "user:bob", "group:staff", "all"]))
    for user in ("ann", "bob", "eve"):
        found = await broker.tasks(user, (f"user:{user}", "group:staff", "all"))
        assert [one.id for one in found] == [made.id]
    await broker.change_task(made.id, step(done=7))
    for user in ("ann", "bob", "eve"):
        assert [one.done for one in await broker.tasks(user, (f"user:{user}", "all"))] == [7]


async def test_a_task_is_not_shown_to_others(broker: Broker) -> None:
    await broker.create_task(new_task("user:ann"))
    assert not await broker.tasks("bob", ("user:bob", "all"))


async def test_a_taken_id_and_an_unknown_one_are_refused(broker: Broker) -> None:
    made = await broker.create_task(new_task(task_id="import-1"))
    with pytest.raises(Conflict):
        await broker.create_task(new_task(task_id="import-1"))
    with pytest.raises(NotFound):
        await broker.change_task("import-2", step(done=1))
    assert await broker.task("import-1") == made


async def test_a_refused_change_changes_nothing(broker: Broker) -> None:
    made = await broker.create_task(new_task(total=3))
    with pytest.raises(InvalidInput):
        await broker.change_task(made.id, step(done=4))
    assert await broker.task(made.id) == made
    ended = await broker.change_task(made.id, step(status="failed", error="disk full"))
    with pytest.raises(Conflict):
        await broker.change_task(made.id, step(done=1))
    assert await broker.task(made.id) == ended


async def test_many_who_advance_one_task_are_all_counted(broker: Broker) -> None:
    made = await broker.create_task(new_task(total=60))
    await asyncio.gather(*(broker.change_task(made.id, step(advance=2)) for _ in range(30)))
    found = await broker.task(made.id)
    assert found is not None
    assert found.done == 60


async def test_a_repeated_advance_is_counted_once(broker: Broker) -> None:
    asked = new_task(total=10, task_id="import-1")
    made = await broker.create_task(asked, Idempotency("p:create", "a"))
    assert await broker.create_task(asked, Idempotency("p:create", "a")) == made
    first = await broker.change_task(made.id, step(advance=3), Idempotency("p:1", "a"))
    again = await broker.change_task(made.id, step(advance=3), Idempotency("p:1", "a"))
    assert (first.done, again.done) == (3, 3)
    with pytest.raises(IdempotencyMismatch):
        await broker.change_task(made.id, step(advance=4), Idempotency("p:1", "b"))


async def test_a_repeated_end_is_answered_and_not_refused(broker: Broker) -> None:
    made = await broker.create_task(new_task())
    first = await broker.change_task(made.id, step(status="succeeded"), Idempotency("p:end", "a"))
    again = await broker.change_task(made.id, step(status="succeeded"), Idempotency("p:end", "a"))
    assert first == again


async def test_a_dismissed_task_is_gone_for_one_user(broker: Broker) -> None:
    made = await broker.create_task(new_task("all"))
    await broker.change_task(made.id, step(status="succeeded"))
    await broker.dismiss_task("ann", made.id)
    assert not await broker.tasks("ann", ANN)
    assert len(await broker.tasks("bob", ("user:bob", "all"))) == 1


# Heartbeats


async def test_tasks_whose_producers_fell_silent_are_found_until_they_speak_or_end(broker: Broker) -> None:
    start_ms = int(time.time() * 1000)
    for name in ("quiet", "loud", "ended", "waits", "never"):
        await broker.create_task(tasks.begin(to=["user:ann"], name=name, task_id=name, now_ms=start_ms))
    for name in ("quiet", "loud", "ended", "waits"):
        await broker.change_task(name, lambda one: one.changed(tasks.BEAT, now_ms=start_ms + 10))
    assert list(await broker.stalled_tasks(start_ms + 10)) == []
    assert sorted(await broker.stalled_tasks(start_ms + 11)) == ["ended", "loud", "quiet", "waits"]
    await broker.change_task("loud", lambda one: one.changed({"advance": 1}, now_ms=start_ms + 20))
    await broker.change_task("ended", lambda one: one.changed({"status": "failed"}, now_ms=start_ms + 20))
    await broker.change_task("waits", lambda one: one.changed({"status": "pending"}, now_ms=start_ms + 20))
    assert list(await broker.stalled_tasks(start_ms + 15)) == ["quiet"]
    judged = await broker.change_task(
        "quiet", lambda one: one.stalled_or_failed(now_ms=start_ms + 99, stalled_ms=9, failed_ms=999)
    )
    assert (judged.status, list(await broker.stalled_tasks(start_ms + 15))) == ("stalled", ["quiet"])
