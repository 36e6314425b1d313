"""Foreign values under notifier's names in Redis affect nothing but themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address, Connection, Receive
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.values import History
from notifier.errors import BrokerUnavailable
from notifier.event import Cursor, custom
from tests.broker.support import ANN, Recorder, listed, new_task, note, opened, step, subjects, until
from tests.support import RedisServer

KEYS = Keys("poison:")


@pytest.fixture
async def sink() -> Recorder:
    return Recorder()


@pytest.fixture
async def broker(redis_server: RedisServer, raw: redis.Redis, sink: Recorder) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(One(Address.from_url(redis_server.url)), KEYS, history=History(50, 50, 3600), max_replay=100)
    await broker.start(sink)
    yield broker
    await broker.close()


BAD_FRAMES = {
    "not UTF-8": b'event: message\ndata: {"a":"\xff"}\n\n',
    "two events in one": b"event: message\ndata: {}\n\nevent: message\ndata: {}\n\n",
    "a forged id": b"id: e-999999\nevent: message\ndata: {}\n\n",
    "a line end in the name": b"event: mess\nage\ndata: {}\n\n",
    "a carriage return": b"event: message\rdata: {}\n\n",
    "a NUL": b"event: message\ndata: {\x00}\n\n",
    "no end": b"event: message\ndata: {}",
    "nothing": b"",
    "huge": b"event: message\ndata: " + b"x" * 1_000_000 + b"\n\n",
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_a_bad_stored_entry_is_skipped_and_the_rest_is_replayed(
    broker: RedisBroker, raw: redis.Redis, name: str
) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="before"))
    seq = int(raw.incr(KEYS.seq(0)))
    raw.xadd(KEYS.log(0, "user:ann"), {"f": BAD_FRAMES[name], "m": "forged"}, id=f"{seq}-0")
    raw.hset(KEYS.meta(0, "user:ann"), "last", seq)
    await broker.publish(note(subject="after"))
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["before", "after"])
    assert broker.skipped == 1
    assert [subject for subject, _ in await listed(broker)] == ["after", "before"]


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_a_bad_announcement_is_not_delivered(
    broker: RedisBroker, raw: redis.Redis, sink: Recorder, name: str
) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    epoch, frame = (await opened(broker)).cursor.epoch.encode(), BAD_FRAMES[name]
    raw.publish(topic, epoch + b" 1 0 -\nid: " + epoch + b"-1\n" + frame)
    raw.publish(topic, b"- 0 0 task-1\n" + frame)
    raw.publish(topic, frame)
    await broker.publish(note(subject="real"))
    await until(lambda: sink.events)
    assert [b"real" in wire for _, _, wire in sink.events] == [True]
    assert sink.states == []
    assert broker.skipped == 3


@pytest.mark.parametrize(
    "lead", [b"", b"x", b"e 1", b"e one 0 -", b"e 1 0 - more", b"\xff 1 0 -", b"e 1 0 \xff", b"e 1.5 0 -"]
)
async def test_a_bad_lead_is_skipped(broker: RedisBroker, raw: redis.Redis, sink: Recorder, lead: bytes) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    raw.publish(topic, lead + b"\nevent: message\ndata: {}\n\n")
    await broker.publish(note(subject="real"))
    await until(lambda: sink.events)
    assert len(sink.events) == 1
    assert broker.skipped == 1


async def test_a_forged_seq_causes_a_resync_and_loses_nothing(
    broker: RedisBroker, raw: redis.Redis, sink: Recorder
) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    await broker.publish(note(subject="one"))
    await until(lambda: sink.events)
    epoch = (await opened(broker)).cursor.epoch.encode()
    raw.publish(topic, epoch + b" 999 1 -\nid: " + epoch + b'-999\nevent: message\ndata: {"forged":1}\n\n')
    await broker.publish(note(subject="two"))
    await until(lambda: sink.resyncs)
    assert sink.resyncs == [([topic], 999)]
    await broker.publish(note(subject="three"))
    await until(lambda: b"three" in sink.events[-1][2])


async def test_a_forged_epoch_causes_a_resync(broker: RedisBroker, raw: redis.Redis, sink: Recorder) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    await broker.publish(note(subject="one"))
    await until(lambda: sink.events)
    raw.publish(topic, b'forged 2 1 -\nid: forged-2\nevent: message\ndata: {"forged":1}\n\n')
    await until(lambda: sink.resyncs == [(None, None)])
    await broker.publish(note(subject="two"))
    await until(lambda: b"two" in sink.events[-1][2])
    assert not any(b"forged" in wire for _, _, wire in sink.events)


@pytest.mark.parametrize("word", ["seq", "epoch", "log", "events", "meta", "tasks", "read", "hidden"])
async def test_a_key_of_another_type_is_quarantined(broker: RedisBroker, raw: redis.Redis, word: str) -> None:
    key = {
        "seq": KEYS.seq(0),
        "epoch": KEYS.epoch(0),
        "log": KEYS.log(0, "user:ann"),
        "events": KEYS.events(0, "user:ann"),
        "meta": KEYS.meta(0, "user:ann"),
        "tasks": KEYS.tasks(0, "user:ann"),
        "read": KEYS.read(0, "ann"),
        "hidden": KEYS.hidden(0, "ann"),
    }[word]
    await broker.publish(note(subject="one"))
    raw.delete(key)
    raw.sadd(key, "foreign")
    await broker.publish(note(subject="two"))
    await broker.publish(custom(to=["user:ann"], event_type="order.paid"))
    await broker.create_task(new_task())
    assert "two" in [subject for subject, _ in await listed(broker)]
    await broker.mark("ann", ANN, "all", [])
    assert (await opened(broker)).unread == 0
    assert len((await opened(broker)).tasks) == 1
    assert raw.smembers(f"{key}:foreign") == {b"foreign"}
    assert broker.skipped == 1


@pytest.mark.parametrize("entry_id", ["*", "40-7", "18446744073709551615-1"])
@pytest.mark.parametrize("with_meta", [True, False])
async def test_a_foreign_entry_does_not_block_its_channel(
    broker: RedisBroker, raw: redis.Redis, entry_id: str, with_meta: bool
) -> None:
    if with_meta:
        await broker.publish(note("all", subject="before"))
    raw.xadd(KEYS.log(0, "all"), {"f": "x"}, id=entry_id)
    await broker.publish(note(["user:ann", "all"], subject="one"))
    start = (await opened(broker)).cursor
    await broker.publish(note("all", subject="two"))
    await broker.publish(note(subject="three"))
    assert subjects(await opened(broker, start)) == ["two", "three"]


async def test_a_foreign_entry_far_above_the_counter_blocks_neither_of_a_channels_logs(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    raw.xadd(KEYS.events(0, "user:ann"), {"f": "x"}, id="18446744073709551615-1")
    await broker.publish(note(subject="one"))
    assert raw.exists(KEYS.events(0, "user:ann") + ":foreign")
    await broker.publish(custom(to=["user:ann"], event_type="order.paid"))
    assert await listed(broker) == [("one", False)]


async def test_an_emptied_log_does_not_block_its_channel(broker: RedisBroker, raw: redis.Redis) -> None:
    for subject in ("one", "two"):
        await broker.publish(note(subject=subject))
        entry = raw.xadd(KEYS.log(0, "user:ann"), {"f": "x"})
        raw.xtrim(KEYS.log(0, "user:ann"), maxlen=0, approximate=False)
        assert entry
    await broker.publish(note(subject="three"))
    assert await listed(broker) == [("three", False)]


@pytest.mark.parametrize("value", ["9223372036854775807", "9" * 16, "-5", "1.5", "two"])
async def test_a_foreign_counter_is_replaced_by_a_new_epoch(broker: RedisBroker, raw: redis.Redis, value: str) -> None:
    receipt = await broker.publish(note(subject="one"))
    raw.set(KEYS.seq(0), value)
    later = await broker.publish(note("user:bob", subject="two"))
    assert later.epoch != receipt.epoch
    assert (await opened(broker, Cursor(receipt.epoch, 1))).verdict == "epoch_changed"
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="three"))
    assert subjects(await opened(broker, start)) == ["three"]


@pytest.mark.parametrize("word", [b"\xff\xfe", b"", b"UPPER", b"a b", b"x" * 33, b"a\r\nid: 1"])
async def test_a_foreign_epoch_is_replaced(broker: RedisBroker, raw: redis.Redis, word: bytes) -> None:
    receipt = await broker.publish(note())
    cursor = Cursor(receipt.epoch, receipt.seq)
    for use in (opened(broker, cursor), listed(broker), broker.publish(note())):
        raw.set(KEYS.epoch(0), word)
        await use
        assert raw.get(KEYS.epoch(0)).isalnum()
    raw.set(KEYS.epoch(0), word)
    assert (await opened(broker, cursor)).verdict == "epoch_changed"


async def test_foreign_values_beside_the_frames_have_no_effect(broker: RedisBroker, raw: redis.Redis) -> None:
    raw.hset(KEYS.floor(0), mapping={"a": "inf", "b": "1e400", "t": "\xff"})
    await broker.publish(note("user:bob"))
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="one"))
    raw.set(KEYS.revoked(0, "ann"), b"\xff")
    seq = int(raw.incr(KEYS.seq(0)))
    raw.xadd(KEYS.log(0, "user:ann"), {"f": b"\xff", "m": b'\xff"\n', "k": b"\xff", "x": "soon"}, id=f"{seq}-0")
    raw.hset(KEYS.meta(0, "user:ann"), "last", seq)
    await broker.publish(note(subject="two"))
    assert subjects(await opened(broker, start)) == ["one", "two"]
    assert len((await broker.mark("ann", ANN, "all", [])).changed) == 2
    raw.zadd(KEYS.beats(0), {b"\xff": 1})
    assert await broker.stalled_tasks(2) == []


async def test_a_task_record_that_cannot_be_read_is_not_shown(broker: RedisBroker, raw: redis.Redis) -> None:
    good = await broker.create_task(new_task())
    for number, record in enumerate([b"{}", b"\xff", b"[]", b'{"id": 1}', b"null"]):
        raw.hset(KEYS.task(0, f"bad-{number}"), mapping={"version": 1, "record": record})
        raw.zadd(KEYS.tasks(0, "user:ann"), {f"bad-{number}": number})
    assert [task.id for task in await broker.tasks("ann", ANN)] == [good.id]
    changed = await broker.change_task(good.id, step(done=1))
    assert changed.done == 1


async def test_a_foreign_value_under_a_tasks_key_hides_that_task_alone(broker: RedisBroker, raw: redis.Redis) -> None:
    good, lost = await broker.create_task(new_task()), await broker.create_task(new_task())
    raw.delete(KEYS.task(0, lost.id))
    raw.sadd(KEYS.task(0, lost.id), "not ours")
    assert [task.id for task in (await opened(broker)).tasks] == [good.id]
    assert raw.smembers(f"{KEYS.task(0, lost.id)}:foreign") == {b"not ours"}


async def test_a_foreign_value_under_a_tasks_key_does_not_stop_a_call_for_that_task(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    lost = await broker.create_task(new_task())
    raw.delete(KEYS.task(0, lost.id))
    raw.sadd(KEYS.task(0, lost.id), "not ours")
    assert await broker.task(lost.id) is None
    assert broker.skipped == 1


async def test_a_foreign_value_under_a_tasks_key_does_not_stop_the_deletion_of_a_user(
    broker: RedisBroker, raw: redis.Redis
) -> None:
    lost = await broker.create_task(new_task())
    raw.delete(KEYS.task(0, lost.id))
    raw.sadd(KEYS.task(0, lost.id), "not ours")
    await broker.forget("ann")
    assert (await opened(broker)).tasks == []


@pytest.mark.parametrize("value", ["9223372036854775807", "9" * 16, "-5", "1.5", "two"])
async def test_a_foreign_counter_stops_no_call(broker: RedisBroker, raw: redis.Redis, value: str) -> None:
    await broker.publish(note(subject="one"))
    for call in (
        opened(broker),
        listed(broker),
        broker.mark("ann", ANN, "all", []),
        broker.dismiss_task("ann", "t1"),
        broker.forget("ann"),
    ):
        raw.set(KEYS.seq(0), value)
        await call


@pytest.mark.parametrize("answer", [None, b"", [], [b"ok"], [[1]], 7, [b"new", b"e", b"x", 0]])
async def test_an_answer_in_another_form_is_a_refused_call(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """As from a proxy, or from something else that speaks the protocol."""

    def another(connection: Connection, receive: Receive, *command: object) -> None:
        receive(answer)

    monkeypatch.setattr(Connection, "send", another)
    for call in (opened(broker), listed(broker), broker.publish(note()), broker.mark("ann", ANN, "all", [])):
        with pytest.raises(BrokerUnavailable):
            await call


async def test_a_missing_log_causes_a_reset(broker: RedisBroker, raw: redis.Redis) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="lost"))
    raw.delete(KEYS.log(0, "user:ann"))
    assert (await opened(broker, start)).verdict == "history_lost"
    await broker.publish(note(subject="later"))
    assert (await opened(broker, start)).verdict == "history_trimmed"
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="new"))
    assert subjects(await opened(broker, start)) == ["new"]


async def test_a_missing_meta_causes_a_reset_until_the_next_event(broker: RedisBroker, raw: redis.Redis) -> None:
    for subject in ("one", "two"):
        receipt = await broker.publish(note(subject=subject))
    raw.delete(KEYS.meta(0, "user:ann"))
    assert (await opened(broker, Cursor(receipt.epoch, 1))).verdict == "history_lost"
    await broker.publish(note(subject="three"))
    # Events may have been trimmed or expired before: the new meta covers what came after it.
    assert (await opened(broker, Cursor(receipt.epoch, 1))).verdict == "history_trimmed"
    assert subjects(await opened(broker, Cursor(receipt.epoch, 2))) == ["three"]
    raw.xtrim(KEYS.log(0, "user:ann"), maxlen=1, approximate=False)
    raw.delete(KEYS.meta(0, "user:ann"))
    await broker.publish(note(subject="four"))
    assert (await opened(broker, Cursor(receipt.epoch, 1))).verdict == "history_trimmed"


async def test_a_counter_that_stepped_back_begins_a_new_epoch(broker: RedisBroker, raw: redis.Redis) -> None:
    for _ in range(5):
        receipt = await broker.publish(note())
    raw.set(KEYS.seq(0), 2)
    later = await broker.publish(note(subject="after"))
    assert later.epoch != receipt.epoch
    assert later.seq > receipt.seq
    assert (await opened(broker, Cursor(receipt.epoch, 4))).verdict == "epoch_changed"
