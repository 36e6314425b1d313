"""The contract of brokers: the output of a task, in numbered pieces."""

from __future__ import annotations

import asyncio
import json

import pytest

from notifier.broker import Broker
from notifier.broker.values import Idempotency
from notifier.errors import Conflict, IdempotencyMismatch, NotFound
from notifier.output import Appended, Output
from tests.broker.support import OUTPUT_BYTES, Recorder, new_task, opened, step, until

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}e\N{COMBINING ACUTE ACCENT}"


async def test_pieces_are_numbered_and_read_from_any_of_them(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    assert await broker.output(task.id, 0) == Output(0, "", truncated=False)
    assert await broker.append_output(task.id, "one\n") == Appended(1, 4)
    assert await broker.append_output(task.id, FAMILY) == Appended(2, 9)
    assert await broker.append_output(task.id, "three") == Appended(3, 14)
    assert await broker.output(task.id, 0) == Output(3, f"one\n{FAMILY}three", truncated=False)
    assert await broker.output(task.id, 1) == Output(3, f"{FAMILY}three", truncated=False)
    for after in (3, 99):
        assert await broker.output(task.id, after) == Output(3, "", truncated=False)


async def test_a_piece_is_announced_with_its_number_and_the_task_has_the_counts(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    task = await broker.create_task(new_task())
    for text in ('a "quoted"\n', "b"):
        await broker.append_output(task.id, text)
    await until(lambda: len(sink.states) == 3)
    announced = [json.loads(wire.partition(b"\ndata: ")[2]) for _, _, wire in sink.states[1:]]
    assert announced == [{"id": task.id, "n": 1, "text": 'a "quoted"\n'}, {"id": task.id, "n": 2, "text": "b"}]
    assert [(topic, key) for topic, key, _ in sink.states[1:]] == [(topics[0], f"output:{task.id}")] * 2
    assert all(wire.startswith(b"event: task.output\n") for _, _, wire in sink.states[1:])
    changed = await broker.change_task(task.id, step(done=1))
    stored, listed = await broker.task(task.id), await broker.tasks("ann", ("user:ann",))
    for seen in (changed, stored, *listed, *(await opened(broker)).tasks):
        assert seen is not None
        assert seen.public()["output"] == {"n": 2, "chars": 12}


async def test_all_recipients_hear_the_pieces(broker: Broker, sink: Recorder) -> None:
    topics = [broker.topics(user, [f"user:{user}"])[0] for user in ("ann", "bob", "eve", "joe")]
    await broker.subscribe(topics)
    task = await broker.create_task(new_task(["user:ann", "user:bob", "user:eve", "user:joe"]))
    await until(lambda: len(sink.states) == 4)
    await broker.append_output(task.id, "text")
    await until(lambda: len(sink.states) == 8)
    assert {topic for topic, _, _ in sink.states[4:]} == set(topics)
    for user in ("ann", "bob", "eve", "joe"):
        assert [seen.output_n for seen in await broker.tasks(user, (f"user:{user}",))] == [1]


async def test_the_oldest_pieces_go_over_the_bound(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    part = OUTPUT_BYTES // 4
    for number in range(6):
        await broker.append_output(task.id, f"{number}" * part)
    assert await broker.output(task.id, 0) == Output(6, "".join(f"{n}" * part for n in range(2, 6)), truncated=True)
    assert (await broker.output(task.id, 2)).truncated is False
    stored = await broker.task(task.id)
    assert stored is not None
    assert (stored.output_n, stored.output_chars) == (6, 6 * part)
    await broker.append_output(task.id, "x" * (2 * OUTPUT_BYTES))
    assert await broker.output(task.id, 0) == Output(7, "x" * (2 * OUTPUT_BYTES), truncated=True)
    await broker.append_output(task.id, "y")
    assert await broker.output(task.id, 0) == Output(8, "y", truncated=True)


async def test_concurrent_pieces_are_all_kept_each_once(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    texts = [f"<{number}>" for number in range(40)]
    appended = await asyncio.gather(*(broker.append_output(task.id, text) for text in texts))
    assert sorted(answer.n for answer in appended) == list(range(1, 41))
    in_order = sorted(zip((answer.n for answer in appended), texts, strict=True))
    assert (await broker.output(task.id, 0)).text == "".join(text for _, text in in_order)


async def test_a_repeated_piece_is_kept_once(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    first = await broker.append_output(task.id, "a", Idempotency("p:1", "a"))
    assert await broker.append_output(task.id, "a", Idempotency("p:1", "a")) == first
    with pytest.raises(IdempotencyMismatch):
        await broker.append_output(task.id, "b", Idempotency("p:1", "b"))
    await broker.change_task(task.id, step(status="succeeded"))
    assert await broker.append_output(task.id, "a", Idempotency("p:1", "a")) == first
    assert (await broker.output(task.id, 0)).text == "a"


async def test_an_ended_task_takes_no_output_and_keeps_what_it_has(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    await broker.append_output(task.id, "all")
    await broker.change_task(task.id, step(status="succeeded"))
    with pytest.raises(Conflict):
        await broker.append_output(task.id, "more")
    assert await broker.output(task.id, 0) == Output(1, "all", truncated=False)


async def test_an_unknown_task_has_no_output(broker: Broker) -> None:
    with pytest.raises(NotFound):
        await broker.append_output("import-1", "text")
    with pytest.raises(NotFound):
        await broker.output("import-1", 0)


async def test_a_cancel_is_in_the_answer(broker: Broker) -> None:
    task = await broker.create_task(new_task())
    await broker.change_task(task.id, lambda stored: stored.cancelled_by_user(now_ms=stored.updated_at_ms))
    assert (await broker.append_output(task.id, "a")).cancel_requested


async def test_the_output_of_a_forgotten_user_s_task_goes_with_it(broker: Broker) -> None:
    task = await broker.create_task(new_task(task_id="import-9"))
    await broker.append_output(task.id, "secret")
    await broker.forget("ann")
    assert await broker.task(task.id) is None
    await broker.create_task(new_task("user:bob", task_id="import-9"))
    assert await broker.output(task.id, 0) == Output(0, "", truncated=False)
    assert await broker.append_output(task.id, "new") == Appended(1, 3)
    assert (await broker.output(task.id, 0)).text == "new"
