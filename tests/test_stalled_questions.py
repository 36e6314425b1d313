"""A question whose producer is gone: the service itself ends the wait."""

from __future__ import annotations

import asyncio
import time

from notifier.asking import answer_to, asked
from notifier.broker import History
from notifier.broker.memory.broker import MemoryBroker
from notifier.question import ask
from notifier.stalled import StalledTasks
from tests.broker.support import Recorder, new_task


async def test_a_question_that_no_producer_waits_for_gets_its_default() -> None:
    broker = MemoryBroker(history=History(5, 5, 60), max_replay=5)
    await broker.start(Recorder())
    task = await broker.create_task(new_task())
    long_ago = int(time.time() * 1000) - 10_000
    question = ask(text="?", choices=None, free="text", default="-", timeout_s=1, question_id="q", now_ms=long_ago)
    await broker.change_task(task.id, lambda stored: asked(stored, question, now_ms=long_ago))
    watching = asyncio.create_task(StalledTasks(broker, stalled_s=0.5, failed_s=60).watch_forever())
    try:
        async with asyncio.timeout(10):
            while (await broker.task(task.id) or task).status == "waiting":
                await asyncio.sleep(0.02)
    finally:
        watching.cancel()
    stored = await broker.task(task.id)
    assert stored is not None
    answer = answer_to(stored, "q")
    assert answer is not None
    assert (stored.status, answer.value, answer.by_id) == ("running", "-", None)
