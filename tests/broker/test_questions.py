"""The contract of brokers: a question is state of its task, and of several answers one wins."""

from __future__ import annotations

import asyncio
import time

from notifier.asking import answer_to, answered, asked, expired
from notifier.broker import Broker
from notifier.errors import Conflict
from notifier.question import ask
from notifier.task import BEAT, Task
from tests.broker.support import ANN, Recorder, new_task, opened, until

YES_NO = [{"value": "yes", "text": "Yes"}, {"value": "no", "text": "No"}]


async def wait_for_an_answer(broker: Broker, task_id: str, *, timeout_s: int = 300, now_ms: int | None = None) -> Task:
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    question = ask(
        text="Sure?", choices=YES_NO, free=None, default="no", timeout_s=timeout_s, question_id="q-1", now_ms=now_ms
    )
    return await broker.change_task(task_id, lambda stored: asked(stored, question, now_ms=now_ms))


async def test_of_many_answers_at_once_one_wins_and_all_are_given_it(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    task = await broker.create_task(new_task(["user:ann", "user:bob"]))
    await wait_for_an_answer(broker, task.id)
    (snapshot,) = (await opened(broker)).tasks
    assert snapshot.public()["question"]["id"] == "q-1"

    async def answer(number: int) -> object:
        value = "yes" if number % 2 else "no"
        try:
            changed = await broker.change_task(
                task.id,
                lambda stored: answered(
                    stored, "q-1", value, by_id=f"u{number}", by_name=None, now_ms=int(time.time() * 1000)
                ),
            )
        except Conflict as exc:
            return exc.members["by"]
        given = answer_to(changed, "q-1")
        assert given is not None
        return ("won", given.public()["by"])

    results = await asyncio.gather(*(answer(number) for number in range(20)))
    winners = [result for result in results if isinstance(result, tuple)]
    assert len(winners) == 1
    assert all(result == winners[0][1] for result in results if not isinstance(result, tuple))
    await until(lambda: sink.states and b'"question":null' in sink.states[-1][2])
    (listed,) = await broker.tasks("ann", ANN)
    assert (listed.status, len(listed.answers)) == ("running", 1)


async def test_a_question_without_a_living_producer_is_looked_at_after_its_timeout(broker: Broker) -> None:
    start_ms = int(time.time() * 1000)
    await broker.create_task(new_task(task_id="import-1"))
    await wait_for_an_answer(broker, "import-1", timeout_s=10, now_ms=start_ms)
    assert list(await broker.stalled_tasks(start_ms + 10_000)) == []
    assert list(await broker.stalled_tasks(start_ms + 10_001)) == ["import-1"]
    await broker.create_task(new_task(task_id="beats"))
    await broker.change_task("beats", lambda stored: stored.changed(BEAT, now_ms=start_ms + 5))
    assert list(await broker.due_questions(start_ms + 10_000)) == []
    assert list(await broker.due_questions(start_ms + 10_001)) == ["import-1"]
    assert list(await broker.stalled_tasks(start_ms + 10_001)) == ["beats", "import-1"]
    await broker.change_task("beats", lambda stored: stored.changed({"status": "succeeded"}, now_ms=start_ms + 5))
    late = await broker.change_task("import-1", lambda stored: expired(stored, now_ms=start_ms + 10_001))
    assert (late.status, late.answers[0].value) == ("running", "no")
    assert list(await broker.stalled_tasks(start_ms + 99_000)) == []
    assert list(await broker.due_questions(start_ms + 99_000)) == []


async def test_heartbeats_and_withdrawn_questions_hide_no_deadline(broker: Broker) -> None:
    start_ms = int(time.time() * 1000)
    for number in range(3):
        await broker.create_task(begun := new_task(task_id=f"beats-{number}"))
        await broker.change_task(begun.id, lambda stored: stored.changed(BEAT, now_ms=start_ms))
    for name, status in (("ended", "failed"), ("open", None)):
        await broker.create_task(new_task(task_id=name))
        await wait_for_an_answer(broker, name, timeout_s=10, now_ms=start_ms)
        if status:
            await broker.change_task(name, lambda stored: stored.changed({"status": "failed"}, now_ms=start_ms))
    assert list(await broker.due_questions(start_ms + 10_001)) == ["open"]
