"""A question whose producer is gone: the service itself ends the wait."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier.asking import answer_to, asked
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import MAX_STALLED, History, Idempotency, TaskChange
from notifier.errors import BrokerUnavailable
from notifier.question import ask
from notifier.stalled import StalledTasks
from notifier.task import BEAT, Task
from tests.broker.support import Recorder, new_task


async def test_a_question_that_no_producer_waits_for_gets_its_default() -> None:
    broker = MemoryBroker(history=History(5, 5, 60), max_replay=5)
    await broker.start(Recorder())
    task = await broker.create_task(new_task())
    long_ago = int(time.time() * 1000) - 10_000
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=1, question_id="q", now_ms=long_ago)
    await broker.change_task(task.id, lambda stored: asked(stored, question, now_ms=long_ago))
    stored = await after_the_wait(broker, task, stalled_s=0.5)
    answer = answer_to(stored, "q")
    assert answer is not None
    assert (stored.status, answer.value, answer.by_id) == ("running", "-", None)


async def test_the_default_comes_at_the_deadline_and_not_when_a_silent_producer_would_be_noticed() -> None:
    broker = MemoryBroker(history=History(5, 5, 60), max_replay=5)
    await broker.start(Recorder())
    task = await broker.create_task(new_task())
    now_ms = int(time.time() * 1000)
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=2, question_id="q", now_ms=now_ms)
    await broker.change_task(task.id, lambda stored: asked(stored, question, now_ms=now_ms))
    stored = await after_the_wait(broker, task, stalled_s=3600)
    assert (stored.status, stored.answers[0].value) == ("running", "-")
    assert stored.updated_at_ms >= question.expires_at_ms


async def test_a_deadline_that_passes_while_the_broker_is_away_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker(history=History(5, 5, 60), max_replay=5)
    await broker.start(Recorder())
    task = await broker.create_task(new_task())
    now_ms = int(time.time() * 1000)
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=1, question_id="q", now_ms=now_ms)
    await broker.change_task(task.id, lambda stored: asked(stored, question, now_ms=now_ms))
    change_task, refusals = broker.change_task, 3

    async def refusing(task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise BrokerUnavailable("away")
        return await change_task(task_id, change, idempotency)

    monkeypatch.setattr(broker, "change_task", refusing)
    assert (await after_the_wait(broker, task, stalled_s=3600)).status == "running"


async def test_a_deadline_that_passed_before_the_service_started_is_not_hidden_by_heartbeats() -> None:
    broker = MemoryBroker(history=History(5, 5, 60), max_replay=5)
    await broker.start(Recorder())
    now_ms = int(time.time() * 1000)
    for number in range(MAX_STALLED + 1):
        await broker.create_task(new_task(task_id=f"beats-{number}"))
        await broker.change_task(f"beats-{number}", lambda stored: stored.changed(BEAT, now_ms=now_ms - 20_000))
    task = await broker.create_task(new_task())
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=1, question_id="q", now_ms=now_ms - 9000)
    await broker.change_task(task.id, lambda stored: asked(stored, question, now_ms=now_ms - 9000))
    assert (await after_the_wait(broker, task, stalled_s=3600)).status == "running"


async def after_the_wait(broker: MemoryBroker, task: Task, *, stalled_s: float) -> Task:
    """The task when it waits no longer, with the service's look at silent tasks running."""
    watching = asyncio.create_task(StalledTasks(broker, stalled_s=stalled_s, failed_s=7200).watch_forever())
    try:
        async with asyncio.timeout(30):
            while (stored := await broker.task(task.id) or task).status == "waiting":
                await asyncio.sleep(0.02)
    finally:
        watching.cancel()
    return stored
