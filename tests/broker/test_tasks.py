"""The contract of brokers: tasks and the heartbeats of their producers."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier import task as tasks
from notifier.broker import Broker
from notifier.broker.values import MAX_LISTED_TASKS, Idempotency
from notifier.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound
from tests.broker.support import ANN, Recorder, new_task, opened, step, until


async def test_a_task_is_announced_and_stored(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    created = await broker.create_task(new_task(total=4))
    changed = await broker.change_task(created.id, step(done=1, state="reading"))
    assert (changed.percent, changed.version) == (25, 2)
    await until(lambda: len(sink.states) == 2)
    assert [(topic, key) for topic, key, _ in sink.states] == [(topics[0], created.id)] * 2
    assert b'"percent":25' in sink.states[1][2]
    assert await broker.task(created.id) == changed
    assert list((await opened(broker)).tasks) == [changed]


async def test_a_task_keeps_the_link_to_its_result(broker: Broker) -> None:
    created = await broker.create_task(new_task())
    await broker.change_task(created.id, step(status="succeeded", url="/reports/7.csv", url_text="Download"))
    (shown,) = (await opened(broker)).tasks
    for task in (shown, await broker.task(created.id), *await broker.tasks("ann", ("user:ann",))):
        assert task is not None
        assert (task.url, task.url_text) == ("/reports/7.csv", "Download")


async def test_a_task_for_a_group_and_its_members_is_listed_once(broker: Broker) -> None:
    created = await broker.create_task(new_task(["user:ann", "user:bob", "group:staff", "all"]))
    for user in ("ann", "bob", "eve"):
        listed = await broker.tasks(user, (f"user:{user}", "group:staff", "all"))
        assert [task.id for task in listed] == [created.id]
    await broker.change_task(created.id, step(done=7))
    for user in ("ann", "bob", "eve"):
        assert [task.done for task in await broker.tasks(user, (f"user:{user}", "all"))] == [7]


async def test_a_task_is_not_shown_to_others(broker: Broker) -> None:
    await broker.create_task(new_task("user:ann"))
    assert not await broker.tasks("bob", ("user:bob", "all"))


async def test_a_taken_id_and_an_unknown_one_are_refused(broker: Broker) -> None:
    created = await broker.create_task(new_task(task_id="import-1"))
    with pytest.raises(Conflict):
        await broker.create_task(new_task(task_id="import-1"))
    with pytest.raises(NotFound):
        await broker.change_task("import-2", step(done=1))
    assert await broker.task("import-1") == created


async def test_a_refused_change_changes_nothing(broker: Broker) -> None:
    created = await broker.create_task(new_task(total=3))
    with pytest.raises(InvalidInput):
        await broker.change_task(created.id, step(done=4))
    assert await broker.task(created.id) == created
    ended = await broker.change_task(created.id, step(status="failed", error="disk full"))
    with pytest.raises(Conflict):
        await broker.change_task(created.id, step(done=1))
    assert await broker.task(created.id) == ended


async def test_concurrent_advances_of_a_task_are_all_counted(broker: Broker) -> None:
    created = await broker.create_task(new_task(total=60))
    await asyncio.gather(*(broker.change_task(created.id, step(advance=2)) for _ in range(30)))
    stored = await broker.task(created.id)
    assert stored is not None
    assert stored.done == 60


async def test_a_repeated_advance_is_counted_once(broker: Broker) -> None:
    new = new_task(total=10, task_id="import-1")
    created = await broker.create_task(new, Idempotency("p:create", "a"))
    assert await broker.create_task(new, Idempotency("p:create", "a")) == created
    first = await broker.change_task(created.id, step(advance=3), Idempotency("p:1", "a"))
    again = await broker.change_task(created.id, step(advance=3), Idempotency("p:1", "a"))
    assert (first.done, again.done) == (3, 3)
    with pytest.raises(IdempotencyMismatch):
        await broker.change_task(created.id, step(advance=4), Idempotency("p:1", "b"))


async def test_a_repeated_end_gets_the_same_answer(broker: Broker) -> None:
    created = await broker.create_task(new_task())
    first = await broker.change_task(created.id, step(status="succeeded"), Idempotency("p:end", "a"))
    again = await broker.change_task(created.id, step(status="succeeded"), Idempotency("p:end", "a"))
    assert first == again


async def test_a_dismissed_task_is_hidden_from_one_user(broker: Broker) -> None:
    created = await broker.create_task(new_task("all"))
    await broker.change_task(created.id, step(status="succeeded"))
    await broker.dismiss_task("ann", created.id)
    assert not await broker.tasks("ann", ANN)
    assert len(await broker.tasks("bob", ("user:bob", "all"))) == 1


async def test_the_list_has_the_tasks_that_changed_last(broker: Broker) -> None:
    channels = [f"group:{number}" for number in range(3)]
    start_ms = int(time.time() * 1000) - 60_000
    for number in range(300):
        to = [channels[number % 3], "all"] if number == 299 else [channels[number % 3]]
        await broker.create_task(tasks.begin(to=to, name=str(number), now_ms=start_ms + number))
    await broker.change_task((await broker.tasks("ann", channels[:1]))[-1].id, step(done=1))
    listed = await broker.tasks("ann", (*channels, "all"))
    assert [task.name for task in listed[1:]] == [str(number) for number in range(299, 100, -1)]
    assert len(listed) == MAX_LISTED_TASKS


# Heartbeats


async def test_tasks_without_recent_heartbeat_are_stalled_until_the_next_heartbeat_or_their_end(broker: Broker) -> None:
    start_ms = int(time.time() * 1000)
    for name in ("quiet", "loud", "ended", "waits", "never"):
        await broker.create_task(tasks.begin(to=["user:ann"], name=name, task_id=name, now_ms=start_ms))
    for name in ("quiet", "loud", "ended", "waits"):
        await broker.change_task(name, lambda task: task.changed(tasks.BEAT, now_ms=start_ms + 10))
    assert list(await broker.stalled_tasks(start_ms + 10)) == []
    assert sorted(await broker.stalled_tasks(start_ms + 11)) == ["ended", "loud", "quiet", "waits"]
    await broker.change_task("loud", lambda task: task.changed({"advance": 1}, now_ms=start_ms + 20))
    await broker.change_task("ended", lambda task: task.changed({"status": "failed"}, now_ms=start_ms + 20))
    await broker.change_task("waits", lambda task: task.changed({"status": "pending"}, now_ms=start_ms + 20))
    assert list(await broker.stalled_tasks(start_ms + 15)) == ["quiet"]
    judged = await broker.change_task(
        "quiet", lambda task: task.stalled_or_failed(now_ms=start_ms + 99, stalled_ms=9, failed_ms=999)
    )
    assert (judged.status, list(await broker.stalled_tasks(start_ms + 15))) == ("stalled", ["quiet"])
