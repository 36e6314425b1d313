"""One contract for every broker: memory; Redis, with several shards, with an append-only file, with the least rights.

See notifier/broker/__init__.py.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifier import event as events
from notifier import task as tasks
from notifier.broker import EPHEMERAL_PREFIX, Broker, Idempotency, Opening
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound
from notifier.event import Cursor
from notifier.message import message_event, message_of
from tests.support import RedisServer
from tests.support import running as running_server

HISTORY = 5


@dataclass
class Recorder:
    """A sink that keeps what it is given."""

    events: list[tuple[str, int, bytes]] = field(default_factory=list)
    states: list[tuple[str, str, bytes]] = field(default_factory=list)
    resyncs: list[tuple[Sequence[str] | None, int | None]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    away: list[bool] = field(default_factory=list)

    def deliver(self, topic: str, epoch: str, seq: int, key: str, wire: bytes) -> None:
        assert wire.startswith(f"id: {epoch}-{seq}\n".encode())
        self.events.append((topic, seq, wire))

    def deliver_state(self, topic: str, key: str, wire: bytes) -> None:
        self.states.append((topic, key, wire))

    def resync(self, topics: Sequence[str] | None, *, after: int | None = None) -> None:
        self.resyncs.append((topics, after))

    def disconnect(self, topic: str, reason: str) -> None:
        self.ended.append((topic, reason))

    def degraded(self, away: bool) -> None:
        self.away.append(away)


async def until(condition: Callable[[], Any], timeout_s: float = 5) -> None:
    """Waits for a condition of this loop's own."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        await asyncio.sleep(0.005)


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def append_only_redis() -> Iterator[RedisServer]:
    with running_server(RedisServer(append_only=True)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_redis() -> Iterator[RedisServer]:
    """With the rights of deploy/redis-users.acl, and no others. Nothing may have been refused at the end."""
    with running_server(RedisServer(guarded=True)) as server:
        yield server
        with server.client() as client:
            assert client.acl_log() == []


SERVERS = {
    "redis": "redis_server",
    "redis-3-shards": "redis_server",
    "redis-append-only": "append_only_redis",
    "redis-guarded": "guarded_redis",
}


@pytest.fixture(params=["memory", *SERVERS])
async def broker(request: pytest.FixtureRequest, sink: Recorder) -> AsyncIterator[Broker]:
    made = make(request.param, request)
    await made.start(sink)
    yield made
    await made.close()


def make(kind: str, request: pytest.FixtureRequest) -> Broker:
    limits = {"history_size": HISTORY, "history_ttl_s": 3600, "max_replay": 12}
    if kind == "memory":
        return MemoryBroker(**limits)
    server: RedisServer = request.getfixturevalue(SERVERS[kind])
    keys = Keys(f"notifier:t{uuid.uuid4().hex[:8]}:", 3 if kind.endswith("shards") else 1)
    return RedisBroker(Address.from_url(server.url), keys, **limits)


def note(to: str | list[str] = "user:ann", subject: str = "Hi", **more: Any) -> events.Event:
    options = {name: more.pop(name) for name in ("may_repeat", "max_bytes") if name in more}
    return message_event({"to": [to] if isinstance(to, str) else to, "subject": subject, **more}, **options)


ANN = ("user:ann", "group:staff", "all")


async def opened(broker: Broker, cursor: Cursor | str | None = None, user: str = "ann") -> Opening:
    return await broker.open(user, (f"user:{user}", "group:staff", "all"), cursor)


def subjects(opening: Opening) -> list[str]:
    found = [message_of(frame) for _, frame in opening.replay]
    return [one["subject"] for one in found if one is not None]


# Events and order


async def test_ids_grow_by_one_over_all_channels(broker: Broker) -> None:
    receipts = [await broker.publish(note(to)) for to in ("user:ann", "group:staff", "all", "user:ann")]
    assert [one.seq for one in receipts] == [1, 2, 3, 4]
    assert len({one.epoch for one in receipts}) == 1


async def test_an_event_comes_back_to_the_process_that_published_it(broker: Broker, sink: Recorder) -> None:
    topic = broker.topics("ann", ["user:ann"])[0]
    await broker.subscribe([topic])
    await broker.publish(note(subject="first"))
    await broker.publish(note(subject="second"))
    await until(lambda: len(sink.events) == 2)
    assert [(name, seq) for name, seq, _ in sink.events] == [(topic, 1), (topic, 2)]
    assert b'"to":"user:ann"' in sink.events[0][2]
    assert b'"subject":"second"' in sink.events[1][2]


async def test_each_recipient_sees_its_own_channel_and_no_other(broker: Broker, sink: Recorder) -> None:
    topics = [*broker.topics("ann", ["user:ann"]), *broker.topics("bob", ["user:bob"])]
    await broker.subscribe(topics)
    await broker.publish(note(["user:ann", "user:bob"]))
    await until(lambda: len(sink.events) == 2)
    for topic, name, other in ((topics[0], b"user:ann", b"user:bob"), (topics[1], b"user:bob", b"user:ann")):
        wire = next(wire for found, _, wire in sink.events if found == topic)
        assert name in wire
        assert other not in wire


async def test_nothing_comes_after_unsubscribing(broker: Broker, sink: Recorder) -> None:
    ann, bob = broker.topics("ann", ["user:ann"]), broker.topics("bob", ["user:bob"])
    await broker.subscribe([*ann, *bob])
    broker.unsubscribe(ann)
    await broker.publish(note("user:ann"))
    await broker.publish(note("user:bob"))
    await until(lambda: sink.events)
    assert [topic for topic, _, _ in sink.events] == list(bob)


async def test_leaving_and_coming_back_quickly_keeps_the_subscription(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    for _ in range(50):
        await broker.subscribe(topics)
        broker.unsubscribe(topics)
    await broker.subscribe(topics)
    await broker.publish(note())
    await until(lambda: sink.events)
    assert len(sink.events) == 1


async def test_watched_tells_whether_somebody_listens(broker: Broker) -> None:
    assert not (await broker.publish(note())).watched
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    assert (await broker.publish(note())).watched
    assert await broker.is_watched(topics[0])
    broker.unsubscribe(topics)
    async with asyncio.timeout(10):  # said on a connection of its own, so not before the next call for sure
        while await broker.is_watched(topics[0]):
            await asyncio.sleep(0.01)
    assert not (await broker.publish(note())).watched


async def test_an_event_that_is_not_durable_is_announced_and_not_kept(broker: Broker, sink: Recorder) -> None:
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    start = (await opened(broker)).cursor
    await broker.publish(events.custom(to=["user:ann"], event_type="cursor.moved", data={"x": 1}, durable=False))
    await until(lambda: sink.states)
    assert sink.states[0][2] == b'event: cursor.moved\ndata: {"x":1}\n\n'
    assert not (await opened(broker, start)).replay


async def test_more_recipients_than_one_chunk_all_get_it_once(broker: Broker, sink: Recorder) -> None:
    users = [f"u{i}" for i in range(1200)]
    topics = [topic for user in users for topic in broker.topics(user, [f"user:{user}"])]
    await broker.subscribe(topics)
    event = note([f"user:{user}" for user in users])
    await broker.publish(event)
    await until(lambda: len(sink.events) >= 1200)
    assert sorted(topic for topic, _, _ in sink.events) == sorted(topics)
    page = await broker.inbox("u1100", ["user:u1100"], limit=5, before=None, unread_only=False)
    assert [one["id"] for one in page.messages] == [event.message_id]


async def test_an_event_that_is_not_kept_has_a_word_by_which_it_comes_once_over_several_channels(
    broker: Broker, sink: Recorder
) -> None:
    await broker.subscribe(broker.topics("ann", ANN))
    for to in (list(ANN), list(ANN), ["user:ann"]):
        await broker.publish(events.custom(to=to, event_type="cursor.moved", durable=False))
    await until(lambda: len(sink.states) == 7)
    first, second, alone = ({key for _, key, _ in sink.states[at : at + 3]} for at in (0, 3, 6))
    assert len(first) == len(second) == 1
    assert first != second
    assert all(key.startswith(EPHEMERAL_PREFIX) for key in first | second)
    assert alone == {""}


async def test_what_came_in_one_part_of_a_large_publish_is_not_replayed_in_another(broker: Broker) -> None:
    many = ["all", *(f"user:u{i}" for i in range(600)), "user:ann"]
    start = (await opened(broker)).cursor
    custom = events.custom(to=many, event_type="order.paid")
    for event in (note(many, subject="large"), custom):
        receipt = await broker.publish(event)
        # The receipt names the first part, which `all` is in.
        assert len((await opened(broker, start)).replay) == 1
        assert not (await opened(broker, Cursor(receipt.epoch, receipt.seq))).replay
        await broker.publish(note("all", subject="next"))
        assert subjects(await opened(broker, Cursor(receipt.epoch, receipt.seq))) == ["next"]
        start = (await opened(broker)).cursor


# Idempotency


async def test_the_same_key_publishes_once_and_answers_alike(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    idem = Idempotency("p:key", "body-1")
    first = await broker.publish(note(), idem)
    again = await broker.publish(note(), idem)
    assert (first.cursor, first.watched) == (again.cursor, again.watched)
    assert len((await opened(broker, start)).replay) == 1


async def test_another_body_under_a_key_is_refused_and_publishes_nothing(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(), Idempotency("p:key", "body-1"))
    for to in ("user:ann", "user:bob", "user:carl", "user:dora"):
        with pytest.raises(IdempotencyMismatch):
            await broker.publish(note(to), Idempotency("p:key", "body-2"))
    assert len((await opened(broker, start)).replay) == 1


# Replay and reset


async def test_without_a_cursor_nothing_is_replayed(broker: Broker) -> None:
    await broker.publish(note())
    found = await opened(broker)
    assert (found.verdict, found.recovered, list(found.replay)) == ("new", True, [])
    assert found.cursor.seq == 1


async def test_replay_is_in_order_over_all_channels_and_each_event_once(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for number, to in enumerate(["all", "user:ann", "group:staff", ["user:ann", "all", "group:staff"], "user:bob"]):
        await broker.publish(note(to, subject=str(number)))
    found = await opened(broker, start)
    assert (found.verdict, subjects(found)) == ("ok", ["0", "1", "2", "3"])
    assert [seq for seq, _ in found.replay] == sorted(seq for seq, _ in found.replay)


async def test_replay_goes_on_from_the_cursor(broker: Broker) -> None:
    receipts = [await broker.publish(note(subject=str(i))) for i in range(4)]
    found = await opened(broker, Cursor(receipts[1].epoch, receipts[1].seq))
    assert subjects(found) == ["2", "3"]


async def test_a_cursor_before_the_kept_history_is_told_so(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for _ in range(HISTORY):
        last = await broker.publish(note())
    assert (await opened(broker, start)).verdict == "ok"
    await broker.publish(note())
    found = await opened(broker, start)
    assert (found.verdict, found.recovered, list(found.replay)) == ("history_trimmed", False, [])
    assert (await opened(broker, Cursor(last.epoch, last.seq))).verdict == "ok"


async def test_trimming_one_channel_keeps_a_cursor_after_it_valid(broker: Broker) -> None:
    for _ in range(HISTORY + 3):
        await broker.publish(note())
    at = (await opened(broker)).cursor
    await broker.publish(note("all", subject="late"))
    found = await opened(broker, at)
    assert (found.verdict, subjects(found)) == ("ok", ["late"])


@pytest.mark.parametrize(
    ("cursor", "verdict"),
    [
        ("garbage", "cursor_unknown"),
        (Cursor("zzzzzzzzzzzz", 1), "epoch_changed"),
    ],
)
async def test_a_cursor_that_means_nothing_here_is_told_so(broker: Broker, cursor: Any, verdict: str) -> None:
    await broker.publish(note())
    assert (await opened(broker, cursor)).verdict == verdict


async def test_a_cursor_of_the_future_is_not_believed(broker: Broker) -> None:
    receipt = await broker.publish(note())
    assert (await opened(broker, Cursor(receipt.epoch, receipt.seq + 1))).verdict == "cursor_unknown"


async def test_more_missed_events_than_are_replayed_make_a_reset(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for _ in range(HISTORY):
        for to in ("user:ann", "group:staff", "all"):
            await broker.publish(note(to))
    assert (await opened(broker, start)).verdict == "too_many_missed"


async def test_an_expired_message_is_neither_replayed_nor_listed(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    soon = datetime.now(UTC) + timedelta(milliseconds=60)
    await broker.publish(note(subject="brief", expires_at=soon))
    await broker.publish(note(subject="lasting"))
    assert subjects(await opened(broker, start)) == ["brief", "lasting"]
    await asyncio.sleep(0.08)
    assert subjects(await opened(broker, start)) == ["lasting"]
    page = await broker.inbox("ann", ANN, limit=10, before=None, unread_only=False)
    assert [one["subject"] for one in page.messages] == ["lasting"]
    assert page.unread == 1


# The inbox


async def listed(broker: Broker, user: str = "ann", **how: Any) -> list[tuple[str, bool]]:
    how = {"limit": 50, "before": None, "unread_only": False, **how}
    page = await broker.inbox(user, (f"user:{user}", "group:staff", "all"), **how)
    return [(one["subject"], one["read"]) for one in page.messages]


async def test_the_inbox_lists_newest_first_and_pages_back(broker: Broker) -> None:
    ids = []
    for number in range(5):
        event = note(["user:ann", "all"], subject=str(number))
        ids.append(event.message_id)
        await broker.publish(event)
    first = await broker.inbox("ann", ANN, limit=2, before=None, unread_only=False)
    assert [one["subject"] for one in first.messages] == ["4", "3"]
    assert first.more
    assert first.unread == 5
    second = await broker.inbox("ann", ANN, limit=2, before=first.messages[-1]["id"], unread_only=False)
    assert [one["subject"] for one in second.messages] == ["2", "1"]
    last = await broker.inbox("ann", ANN, limit=2, before=second.messages[-1]["id"], unread_only=False)
    assert [one["subject"] for one in last.messages] == ["0"]
    assert not last.more
    await broker.mark("ann", ANN, "delete", [second.messages[-1]["id"]])
    again = await broker.inbox("ann", ANN, limit=2, before=second.messages[-1]["id"], unread_only=False)
    assert again.messages == last.messages
    gone = await broker.inbox("ann", ANN, limit=2, before="no-such-id", unread_only=False)
    assert not gone.messages
    assert not gone.more


async def test_other_events_are_not_messages(broker: Broker) -> None:
    await broker.publish(events.custom(to=["user:ann"], event_type="order.paid", data={}))
    assert await listed(broker) == []
    assert (await opened(broker)).unread == 0


async def test_reading_is_of_one_user_and_tells_its_other_tabs(broker: Broker, sink: Recorder) -> None:
    first, second = note("all", subject="first"), note("all", subject="second")
    for one in (first, second):
        await broker.publish(one)
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    marked = await broker.mark("ann", ANN, "read", [first.message_id, "unknown"])
    assert (list(marked.changed), marked.unread) == ([first.message_id], 1)
    assert await listed(broker) == [("second", False), ("first", True)]
    assert await listed(broker, unread_only=True) == [("second", False)]
    assert await listed(broker, "bob") == [("second", False), ("first", False)]
    await until(lambda: sink.states)
    expected = f'{{"read":["{first.message_id}"],"deleted":[],"unread":1}}'
    assert sink.states[0][2] == f"event: inbox\ndata: {expected}\n\n".encode()
    assert (await broker.mark("ann", ANN, "read", [first.message_id])).changed == []


async def test_reading_all_covers_what_is_there_and_not_what_comes(broker: Broker) -> None:
    for number in range(3):
        await broker.publish(note(subject=str(number)))
    marked = await broker.mark("ann", ANN, "all", [])
    assert len(marked.changed) == 3
    assert marked.unread == 0
    await broker.publish(note(subject="new"))
    assert await broker.unread("ann", ANN) == 1
    assert [read for _, read in await listed(broker)] == [False, True, True, True]


async def test_deleting_hides_a_message_from_one_user(broker: Broker, sink: Recorder) -> None:
    event = note("all")
    await broker.publish(event)
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    marked = await broker.mark("ann", ANN, "delete", [event.message_id])
    assert (list(marked.changed), marked.unread) == ([event.message_id], 0)
    assert await listed(broker) == []
    assert len(await listed(broker, "bob")) == 1
    await until(lambda: sink.states)
    assert f'"deleted":["{event.message_id}"]'.encode() in sink.states[0][2]
    assert (await broker.mark("ann", ANN, "delete", [event.message_id])).changed == []


# Tasks


def running(to: str | list[str] = "user:ann", **more: Any) -> tasks.Task:
    to = [to] if isinstance(to, str) else to
    return tasks.begin(to=to, name="Import", now_ms=int(time.time() * 1000), **more)


def step(**change: Any) -> Callable[[tasks.Task], tasks.Task]:
    return lambda one: one.changed(change, now_ms=int(time.time() * 1000))


async def test_a_task_is_announced_and_kept(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    made = await broker.create_task(running(total=4))
    changed = await broker.change_task(made.id, step(done=1, state="reading"))
    assert (changed.percent, changed.version) == (25, 2)
    await until(lambda: len(sink.states) == 2)
    assert [(topic, key) for topic, key, _ in sink.states] == [(topics[0], made.id)] * 2
    assert b'"percent":25' in sink.states[1][2]
    assert await broker.task(made.id) == changed
    assert list((await opened(broker)).tasks) == [changed]


async def test_a_task_that_a_group_and_its_members_watch_is_one_task(broker: Broker) -> None:
    made = await broker.create_task(running(["user:ann", "user:bob", "group:staff", "all"]))
    for user in ("ann", "bob", "eve"):
        found = await broker.tasks(user, (f"user:{user}", "group:staff", "all"))
        assert [one.id for one in found] == [made.id]
    await broker.change_task(made.id, step(done=7))
    for user in ("ann", "bob", "eve"):
        assert [one.done for one in await broker.tasks(user, (f"user:{user}", "all"))] == [7]


async def test_a_task_is_not_shown_to_others(broker: Broker) -> None:
    await broker.create_task(running("user:ann"))
    assert not await broker.tasks("bob", ("user:bob", "all"))


async def test_a_taken_id_and_an_unknown_one_are_refused(broker: Broker) -> None:
    made = await broker.create_task(running(task_id="import-1"))
    with pytest.raises(Conflict):
        await broker.create_task(running(task_id="import-1"))
    with pytest.raises(NotFound):
        await broker.change_task("import-2", step(done=1))
    assert await broker.task("import-1") == made


async def test_a_refused_change_changes_nothing(broker: Broker) -> None:
    made = await broker.create_task(running(total=3))
    with pytest.raises(InvalidInput):
        await broker.change_task(made.id, step(done=4))
    assert await broker.task(made.id) == made
    ended = await broker.change_task(made.id, step(status="failed", error="disk full"))
    with pytest.raises(Conflict):
        await broker.change_task(made.id, step(done=1))
    assert await broker.task(made.id) == ended


async def test_many_who_advance_one_task_are_all_counted(broker: Broker) -> None:
    made = await broker.create_task(running(total=60))
    await asyncio.gather(*(broker.change_task(made.id, step(advance=2)) for _ in range(30)))
    found = await broker.task(made.id)
    assert found is not None
    assert found.done == 60


async def test_a_repeated_advance_is_counted_once(broker: Broker) -> None:
    asked = running(total=10, task_id="import-1")
    made = await broker.create_task(asked, Idempotency("p:create", "a"))
    assert await broker.create_task(asked, Idempotency("p:create", "a")) == made
    first = await broker.change_task(made.id, step(advance=3), Idempotency("p:1", "a"))
    again = await broker.change_task(made.id, step(advance=3), Idempotency("p:1", "a"))
    assert (first.done, again.done) == (3, 3)
    with pytest.raises(IdempotencyMismatch):
        await broker.change_task(made.id, step(advance=4), Idempotency("p:1", "b"))


async def test_a_repeated_end_is_answered_and_not_refused(broker: Broker) -> None:
    made = await broker.create_task(running())
    first = await broker.change_task(made.id, step(status="succeeded"), Idempotency("p:end", "a"))
    again = await broker.change_task(made.id, step(status="succeeded"), Idempotency("p:end", "a"))
    assert first == again


async def test_a_dismissed_task_is_gone_for_one_user(broker: Broker) -> None:
    made = await broker.create_task(running("all"))
    await broker.change_task(made.id, step(status="succeeded"))
    await broker.dismiss_task("ann", made.id)
    assert not await broker.tasks("ann", ANN)
    assert len(await broker.tasks("bob", ("user:bob", "all"))) == 1


# Users


async def test_disconnecting_a_user_reaches_its_topic(broker: Broker, sink: Recorder) -> None:
    topics = broker.topics("ann", ["user:ann"])
    await broker.subscribe(topics)
    await broker.disconnect("ann")
    await until(lambda: sink.ended)
    assert sink.ended == [(topics[0], "revoked")]


async def test_forgetting_a_user_removes_its_data_and_resets_its_cursors(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(["user:ann", "user:bob"], subject="secret"))
    await broker.create_task(running(["user:ann", "user:bob"]))
    own = await broker.create_task(running("user:ann"))
    await broker.forget("ann")
    assert await broker.task(own.id) is None
    assert await listed(broker) == []
    assert not await broker.tasks("ann", ANN)
    assert (await opened(broker, start)).verdict == "history_trimmed"
    assert len(await listed(broker, "bob")) == 1
    assert len(await broker.tasks("bob", ("user:bob",))) == 1
    await broker.publish(note(subject="new life"))
    assert await listed(broker) == [("new life", False)]


async def test_forgetting_a_user_resets_also_who_had_seen_everything(broker: Broker) -> None:
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


HOSTILE = ["a", "a_b", "a:b", "{a}", "{0}", "*", "?", "a b", "ü", "用户", "[a]", "a\\b", "'", '"', "x" * 128]


async def test_hostile_names_are_told_apart(broker: Broker, sink: Recorder) -> None:
    topics = {user: broker.topics(user, [f"user:{user}"])[0] for user in HOSTILE}
    assert len(set(topics.values())) == len(HOSTILE)
    await broker.subscribe(list(topics.values()))
    for user in HOSTILE:
        await broker.publish(note(f"user:{user}", subject=user))
    await until(lambda: len(sink.events) == len(HOSTILE))
    for user in HOSTILE:
        found = [wire for topic, _, wire in sink.events if topic == topics[user]]
        assert len(found) == 1
        page = await broker.inbox(user, [f"user:{user}"], limit=5, before=None, unread_only=False)
        assert [one["subject"] for one in page.messages] == [user]


# Signs of life


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
