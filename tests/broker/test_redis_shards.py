"""Several shards of one Redis: a task's record at its home, and its copies on the shards of its recipients."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.redis.scripts import Call, publish_calls
from notifier.broker.values import FORGOTTEN, History, Idempotency, Receipt
from notifier.connection_records import ConnectionRecords
from notifier.errors import BrokerUnavailable, Conflict, IdempotencyMismatch
from notifier.event import parse_cursor
from notifier.last_seen import LastSeen
from notifier.output import Appended, Output
from notifier.task import Task
from tests.broker.support import Recorder, new_task, note, opened, step
from tests.hubs import Wall, stream_on
from tests.support import RedisServer

KEYS = Keys(f"notifier:s{uuid.uuid4().hex[:8]}:", 3)
SHARD = KEYS.shard_of_name("ann")
ELSEWHERE = next(f"task-{n}" for n in range(99) if KEYS.shard_of_name(f"task-{n}") != SHARD)
"""A task whose home is another shard than ann's."""


@pytest.fixture
async def broker(redis_server: RedisServer) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(One(Address.from_url(redis_server.url)), KEYS, history=History(50, 50, 3600), max_replay=100)
    await broker.start(Recorder())
    yield broker
    await broker.forget("ann")
    await broker.close()


@pytest.fixture
def refuse_copies(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, calls on ann's shard are refused, until `monkeypatch.undo()`."""
    run = broker._shards.run

    async def refusing(call: Call) -> Any:
        if call.shard == SHARD:
            raise BrokerUnavailable("Redis refused")
        return await run(call)

    return lambda: monkeypatch.setattr(broker._shards, "run", refusing)


async def seen(broker: RedisBroker) -> list[Task]:
    return list(await broker.tasks("ann", ("user:ann",)))


async def test_a_repeated_call_answers_only_when_the_recipients_have_the_task(
    broker: RedisBroker, refuse_copies: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new, key = new_task(task_id=ELSEWHERE), Idempotency("p:create", "a")
    refuse_copies()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await broker.create_task(new, key)
    monkeypatch.undo()
    assert await seen(broker) == []
    created = await broker.create_task(new, key)
    assert await seen(broker) == [created]


async def test_a_repeated_change_answers_only_when_the_recipients_have_it(
    broker: RedisBroker, refuse_copies: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.create_task(new_task(task_id=ELSEWHERE))
    refuse_copies()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await broker.change_task(ELSEWHERE, step(advance=3), Idempotency("p:advance", "a"))
    monkeypatch.undo()
    assert [task.done for task in await seen(broker)] == [0]
    changed = await broker.change_task(ELSEWHERE, step(advance=3), Idempotency("p:advance", "a"))
    assert [task.done for task in await seen(broker)] == [changed.done] == [3]


async def test_a_repeated_call_brings_back_neither_an_older_state_nor_a_forgotten_task(broker: RedisBroker) -> None:
    new, key = new_task(task_id=ELSEWHERE), Idempotency(f"p:{uuid.uuid4().hex}", "a")
    await broker.create_task(new, key)
    await broker.change_task(ELSEWHERE, step(done=5))
    assert (await broker.create_task(new, key)).done == 0
    assert [task.done for task in await seen(broker)] == [5]
    await broker.forget("ann")
    await broker.create_task(new, key)
    assert await seen(broker) == []


async def test_expired_tasks_do_not_hide_a_running_one(broker: RedisBroker, redis_server: RedisServer) -> None:
    running = await broker.create_task(new_task(task_id=ELSEWHERE))
    with redis_server.client() as raw:
        later = {f"expired-{number}": running.updated_at_ms + number for number in range(1, 251)}
        raw.zadd(KEYS.tasks(SHARD, "user:ann"), later)
    assert await seen(broker) == [running]


async def test_a_batch_keeps_its_order_where_the_claim_of_its_first_key_is_answered_last(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = broker._publishes._claim

    async def slow_for_the_first(idempotency: Idempotency) -> None:
        await claim(idempotency)
        if idempotency.key == "p:0":
            await asyncio.sleep(0.1)

    monkeypatch.setattr(broker._publishes, "_claim", slow_for_the_first)
    events = [(note("user:ann", subject=subject), Idempotency(f"p:{n}", "b")) for n, subject in enumerate(("1", "2"))]
    answers = [answer for answer in broker.submit_all(events) if isinstance(answer, Awaitable)]
    receipts = await asyncio.gather(*answers)
    first, second = (int(receipt.cursor.rpartition("-")[2]) for receipt in receipts)
    assert first + 1 == second
    other = [(events[0][0], Idempotency("p:0", "another body")), (note("user:ann"), None)]
    refused, published = await asyncio.gather(*broker.submit_all(other), return_exceptions=True)
    assert isinstance(refused, IdempotencyMismatch)
    assert isinstance(published, Receipt)


async def test_the_cursor_of_an_answer_is_of_the_first_shard_that_has_a_recipient(broker: RedisBroker) -> None:
    users = [next(f"u{n}" for n in range(99) if KEYS.shard_of_name(f"u{n}") == shard) for shard in range(KEYS.shards)]
    for to, first in ((["group:cursors"], 0), ([f"user:{users[2]}", f"user:{users[1]}"], 1)):
        receipt = await broker.publish(note(to))
        ends = [str((await opened(broker, user=user)).cursor) for user in users]
        assert [end == receipt.cursor for end in ends] == [shard == first for shard in range(KEYS.shards)]
        verdicts = [(await opened(broker, parse_cursor(receipt.cursor), user)).verdict for user in users]
        assert verdicts == ["ok" if shard == first else "epoch_changed" for shard in range(KEYS.shards)]


async def test_topics_have_an_order_in_common_where_a_stream_can_have_both(broker: RedisBroker) -> None:
    assert {broker.order_of(topic) for topic in broker.topics("ann", ("user:ann", "group:staff", "all"))} == {
        broker.order_of(KEYS.announcements(SHARD, "all"))
    }
    assert len({broker.order_of(topic) for topic in broker.topics_of("all")}) == KEYS.shards


@pytest.fixture
def release_first_shard(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The first shard's answers stay unread until this is called."""
    connection = broker._shards.primaries[0].connection
    assert connection is not None
    read, unread = connection.data_received, list[bytes]()
    monkeypatch.setattr(connection, "data_received", unread.append)

    def release() -> None:
        monkeypatch.undo()
        read(b"".join(unread))

    return release


async def test_a_publish_for_all_is_answered_with_the_first_shards_place_when_each_shard_has_answered(
    broker: RedisBroker, redis_server: RedisServer, release_first_shard: Callable[[], None]
) -> None:
    last = KEYS.shards - 1
    await broker.subscribe([KEYS.announcements(last, "all")])
    pending = asyncio.ensure_future(broker.submit(note("all")))
    for shard in range(1, KEYS.shards):
        await broker._shards.call(shard, "PING")  # answered after the shard's part of the publish
    assert not pending.done()
    release_first_shard()
    answer = await pending
    with redis_server.client() as raw:
        epoch, seq = raw.mget(KEYS.epoch(0), KEYS.seq(0))
    assert answer == Receipt(epoch.decode(), int(seq), watched=True)


async def test_a_publish_for_all_is_refused_as_soon_as_a_shard_is_lost(
    broker: RedisBroker, release_first_shard: Callable[[], None]
) -> None:
    pending = broker.submit(note("all"))
    broker._shards.primaries[1].reconnect("lost")
    with pytest.raises(BrokerUnavailable, match="lost"):
        await pending
    release_first_shard()


async def test_a_piece_is_refused_where_its_task_has_ended_since_it_was_read(broker: RedisBroker) -> None:
    read = await broker.create_task(new_task())
    await broker.change_task(read.id, step(status="succeeded"))
    with pytest.raises(Conflict, match="ended as succeeded"):
        await broker._outputs.append(read, "late", None)
    assert (await broker.output(read.id, 0)).text == ""


async def test_a_piece_is_stored_nowhere_while_a_shard_of_its_recipients_is_away(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await broker.create_task(new_task(task_id=ELSEWHERE))
    assert await broker.append_output(task.id, "before") == Appended(1, 6)
    with monkeypatch.context() as away:
        away.setattr(broker._shards.primaries[SHARD], "connection", None)
        with pytest.raises(BrokerUnavailable, match=f"shard {SHARD}"):
            await broker.append_output(task.id, "refused")
    assert await broker.output(task.id, 0) == Output(1, "before", truncated=False)


async def test_a_copy_that_missed_pieces_gets_their_counts_with_the_next_change(
    broker: RedisBroker, refuse_copies: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await broker.create_task(new_task(task_id=ELSEWHERE))
    await broker.append_output(task.id, "one")
    refuse_copies()
    with pytest.raises(BrokerUnavailable):
        await broker.append_output(task.id, "two")
    monkeypatch.undo()
    assert [copy.output_n for copy in await seen(broker)] == [1]
    await broker.change_task(task.id, step(done=1))
    assert [(copy.output_n, copy.output_chars) for copy in await seen(broker)] == [(2, 6)]
    refuse_copies()
    with pytest.raises(BrokerUnavailable):
        await broker.append_output(task.id, "three")
    monkeypatch.undo()
    # A repeated call copies a version that the copy has already.
    again = Idempotency(f"p:{uuid.uuid4().hex}", "a")
    for _ in range(2):
        await broker.change_task(task.id, lambda stored: stored, again)
    await broker._tasks._copy(await broker.task(task.id))
    assert [(copy.output_n, copy.output_chars) for copy in await seen(broker)] == [(3, 11)]


async def test_a_change_has_the_counts_of_a_piece_that_came_while_it_was_made(
    broker: RedisBroker, redis_server: RedisServer
) -> None:
    for task_id in ("at-home", ELSEWHERE):
        task = await broker.create_task(new_task(task_id=task_id))
        write = broker._tasks._write

        async def appending(*args: Any, task_id: str = task_id, write: Any = write) -> Any:
            broker._tasks._write = write  # type: ignore[method-assign]
            await broker.append_output(task_id, "text")
            return await write(*args)

        broker._tasks._write = appending  # type: ignore[method-assign]
        with redis_server.client() as raw, raw.pubsub() as listening:
            listening.subscribe(KEYS.announcements(SHARD, "user:ann"))
            await asyncio.to_thread(listening.get_message, timeout=5)
            changed = await broker.change_task(task.id, step(done=1))
            frames = [await asyncio.to_thread(next, listening.listen()) for _ in range(2)]
        assert changed.public()["output"] == {"n": 1, "chars": 4}
        announced = json.loads(frames[1]["data"].partition(b"\ndata: ")[2])
        assert announced == changed.public()
        assert [copy.output_n for copy in await seen(broker) if copy.id == task.id] == [1]


async def test_a_repeated_change_has_the_present_counts(broker: RedisBroker) -> None:
    task = await broker.create_task(new_task(task_id=ELSEWHERE))
    key = Idempotency(f"p:{uuid.uuid4().hex}", "a")
    await broker.change_task(task.id, step(done=1), key)
    await broker.append_output(task.id, "text")
    assert (await broker.change_task(task.id, step(done=1), key)).public()["output"] == {"n": 1, "chars": 4}


async def test_a_long_output_is_read_in_slices_and_has_no_hole(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.broker.redis.outputs.SLICE", 3)
    task = await broker.create_task(new_task())
    for number in range(1, 11):
        await broker.append_output(task.id, f"{number};")
    assert await broker.output(task.id, 0) == Output(10, "1;2;3;4;5;6;7;8;9;10;", truncated=False)
    assert await broker.output(task.id, 4) == Output(10, "5;6;7;8;9;10;", truncated=False)
    call = broker._shards.call

    async def trimming(shard: int, *command: str | int) -> Any:
        answer = await call(shard, *command)
        if command[0] == "XRANGE" and command[2] == "1-0":
            await call(shard, "XTRIM", command[1], "MINID", "7-0")
        return answer

    monkeypatch.setattr(broker._shards, "call", trimming)
    assert await broker.output(task.id, 0) == Output(10, "7;8;9;10;", truncated=True)


async def test_a_shard_that_hangs_delays_no_time_or_record_of_the_users_of_another(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hanging = broker._shards.run, list[Call]()

    async def hangs(call: Call) -> Any:
        if call.shard == SHARD:
            hanging.append(call)
            await asyncio.Event().wait()
        return await run(call)

    seen, records = LastSeen(broker), ConnectionRecords(broker)

    async def connect(user: str) -> None:
        seen.note(user)
        records.proceed(stream_on(Wall(), user), await broker.open(user, [f"user:{user}"], None))

    other = next(f"user-{n}" for n in range(99) if KEYS.shard_of_name(f"user-{n}") != SHARD)
    await connect("ann")
    monkeypatch.setattr(broker._shards, "run", hangs)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        writing = [group.create_task(seen.run_forever()), group.create_task(records.run_forever())]
        while len(hanging) < 2:
            await asyncio.sleep(0.01)
        await connect(other)
        while not (await broker.last_seen([other]) and await broker.afterwards.records(other)):
            await asyncio.sleep(0.01)
        for task in writing:
            task.cancel()
    assert not await broker.last_seen(["ann"])
    monkeypatch.undo()
    await broker.forget(other)
    await broker.afterwards.note({other: {}}, ttl_s=0)
    await broker.seen({other: FORGOTTEN})


async def test_no_call_searches_the_histories_of_many_channels(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search reads whole histories: with all the channels of a call in one script, Redis would stand still."""
    keys, channels = Keys(f"notifier:c{uuid.uuid4().hex[:8]}:"), [f"user:{number}" for number in range(60)]
    broker = RedisBroker(One(Address.from_url(redis_server.url)), keys, history=History(50, 50, 60), max_replay=100)
    await broker.start(Recorder())
    logs = {keys.log(0, channel) for channel in channels}
    searched: list[int] = []
    run = broker._shards.run

    async def counted(call: Call) -> Any:
        searched.append(len(logs & {*call.keys}))
        return await run(call)

    monkeypatch.setattr(broker._shards, "run", counted)
    message = note(channels, id="m1", key="k")
    calls = list(publish_calls(message, keys, history=History(50, 50, 60)))
    assert [len(logs & {*call.keys}) for call in calls] == [25, 25, 10]
    # A stream on several channels recognises the parts of one message.
    assert "-" not in {call.args[9] for call in calls}
    assert len({call.args[9] for call in calls}) == 1
    await broker.publish(message)
    searched.clear()
    assert len(await broker.correct("m1", channels, lambda frame: frame.replace("Hi", "Ho"))) == 60
    await broker.retract("m1", channels)
    assert searched == [25, 25, 25, 25, 10, 10, 25, 25, 10]
    assert await broker.correct("m1", channels, lambda frame: frame) == []
    await broker.close()
