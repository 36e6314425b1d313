"""The embedded broker over a file: a restart goes on, and what is not on the disk is neither answered nor shown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from notifier.asking import answered
from notifier.broker import Broker
from notifier.broker.afterwards import MAX_RECORDS
from notifier.broker.embedded import afterwards as embedded_afterwards
from notifier.broker.embedded import broker as embedded_broker
from notifier.broker.embedded import history as embedded_history
from notifier.broker.embedded import sweep as embedded_sweep
from notifier.broker.sqlite import rows, writer
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.sqlite.file import File
from notifier.broker.values import MAX_MARKS, History, Idempotency, Receipt
from notifier.errors import BrokerUnavailable, IdempotencyMismatch
from notifier.event import Cursor, custom
from tests.broker.support import ANN, HISTORY, Recorder, listed, new_task, note, opened, step, subjects, until
from tests.broker.test_questions import wait_for_an_answer

LIMITS = {"history": History(HISTORY, HISTORY, 3600), "max_replay": 12}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notifier.db"


@contextlib.asynccontextmanager
async def running(path: Path, sink: Recorder | None = None, **limits: Any) -> AsyncIterator[SqliteBroker]:
    broker = SqliteBroker(path, **{**LIMITS, **limits})
    await broker.start(sink or Recorder())
    try:
        yield broker
    finally:
        await broker.close()


# A restart


async def test_the_link_to_a_result_is_there_after_a_restart(path: Path) -> None:
    async with running(path) as broker:
        created = await broker.create_task(new_task())
        ended = await broker.change_task(created.id, step(status="succeeded", url="/7.csv", url_text="Download"))
    async with running(path) as broker:
        assert await broker.task(created.id) == ended
        assert list((await opened(broker)).tasks) == [ended]


async def test_an_open_question_and_its_deadline_are_there_after_a_restart(path: Path) -> None:
    async with running(path) as broker:
        await broker.create_task(new_task(task_id="asks"))
        waiting = await wait_for_an_answer(broker, "asks", timeout_s=10)
    async with running(path) as broker:
        assert await broker.task("asks") == waiting
        assert waiting.question is not None
        assert list(await broker.due_questions(waiting.question.expires_at_ms + 1)) == ["asks"]
        now_ms = waiting.question.asked_at_ms + 5
        await broker.change_task(
            "asks", lambda task: answered(task, "q-1", "yes", by_id="ann", by_name="Ann", now_ms=now_ms)
        )
    async with running(path) as broker:
        task = await broker.task("asks")
        assert task is not None
        assert task.public()["answer"]["by"] == {"id": "ann", "name": "Ann"}
        assert list(await broker.due_questions(1 << 60)) == []


async def test_a_restart_goes_on_where_every_client_was(path: Path) -> None:
    async with running(path) as broker:
        await broker.publish(note(subject="seen"))
        start = (await opened(broker)).cursor
        await broker.publish(note(subject="Größe 😀 \u2028"))
        await broker.publish(custom(to=["all"], event_type="order.paid", data={"a": "\n\n"}))
        await broker.publish(note(["user:ann", "user:bob"], subject="third", may_repeat=True, id="m-3"))
        before = await opened(broker, start)
    async with running(path) as broker:
        after = await opened(broker, start)
        assert asdict(after) == asdict(before)
        assert (after.verdict, subjects(after)) == ("ok", ["Größe 😀 \u2028", "third"])
        receipt = await broker.publish(note(subject="later"))
        assert (receipt.epoch, receipt.seq) == (start.epoch, start.seq + 4)
        assert (await opened(broker, start)).missed == 4


async def test_a_restart_keeps_read_marks_deletions_and_tasks(path: Path) -> None:
    async with running(path) as broker:
        for subject in ("a", "b", "c", "d"):
            await broker.publish(note(subject=subject, id=f"m-{subject}"))
        await broker.mark("ann", ANN, "read", ["m-c"])
        await broker.mark("ann", ANN, "delete", ["m-b"])
        tasks = [await broker.create_task(new_task(["user:ann", "user:bob"])) for _ in range(3)]
        await broker.change_task(tasks[0].id, step(status="running"))
        await broker.change_task(tasks[1].id, step(total=7, state="half"))
        await broker.dismiss_task("ann", tasks[2].id)
        before = [await listed(broker), await broker.tasks("ann", ANN), await broker.stalled_tasks(1 << 60)]
        assert before[2] == [tasks[0].id]
    async with running(path) as broker:
        assert [await listed(broker), await broker.tasks("ann", ANN), await broker.stalled_tasks(1 << 60)] == before
        assert (await broker.mark("ann", ANN, "all", [])).unread == 0
    async with running(path) as broker:
        assert await listed(broker) == [("d", True), ("c", True), ("a", True)]
        await broker.publish(note(subject="e"))
        assert await broker.unread("ann", ANN) == 1


async def test_a_restart_keeps_the_newest_marks_in_their_order(path: Path) -> None:
    ids = [f"m-{number}" for number in range(MAX_MARKS + 20)]
    async with running(path) as broker:
        await asyncio.gather(*(broker.dismiss_task("ann", task_id) for task_id in ids))
    async with running(path) as broker:
        assert list(broker._marks["ann"].hidden) == [f"t:{task_id}" for task_id in ids[20:]]


async def test_a_restart_keeps_the_records_of_connections_until_their_time_is_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = [f"{number:03}" for number in range(5, MAX_RECORDS + 5)]
    async with running(path) as broker:
        for number in range(MAX_RECORDS + 5):
            assert not await broker.afterwards.note({"ann": {f"{number:03}": "open"}, "bob": {"1": "b"}}, ttl_s=600)
        await broker.afterwards.note({"ann": {each: each for each in newest}, "cid": {"1": "c"}}, ttl_s=600)
        await broker.forget("bob")
        await broker.afterwards.note({"dan": {"1": "d"}}, ttl_s=5000)
    async with running(path) as broker:
        assert list(await broker.afterwards.records("ann")) == newest
        assert [list(await broker.afterwards.records(user)) for user in ("bob", "cid")] == [[], ["c"]]
        monkeypatch.setattr(embedded_afterwards, "MAX_USERS", 2)
        await broker.afterwards.note({"cid": {"2": "d"}}, ttl_s=600)
        assert list(await broker.afterwards.records("ann")) == []
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        kept = connection.execute("SELECT user, id FROM records ORDER BY user, id").fetchall()
        assert kept == [("cid", "1"), ("cid", "2"), ("dan", "1")]
        connection.execute("UPDATE records SET ends_s = ends_s - 700")
    async with running(path) as broker:
        assert [list(await broker.afterwards.records(user)) for user in ("cid", "dan")] == [[], ["d"]]


async def test_records_wait_while_the_file_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(path) as broker:
        monkeypatch.setattr(type(broker._writer), "away", property(lambda _: True))
        assert list(await broker.afterwards.note({"ann": {"1": "a"}}, ttl_s=600)) == ["ann"]


async def test_a_restart_keeps_the_answers_under_idempotency_keys(path: Path) -> None:
    async with running(path) as broker:
        receipt = await broker.publish(note(), Idempotency("k1", "body"))
        task = await broker.create_task(new_task(), Idempotency("k2", "body"))
        changed = await broker.change_task(task.id, step(total=3), Idempotency("k3", "body"))
    async with running(path) as broker:
        assert await broker.publish(note(), Idempotency("k1", "body")) == receipt
        assert await broker.create_task(new_task(), Idempotency("k2", "body")) == task
        assert await broker.change_task(task.id, step(total=9), Idempotency("k3", "body")) == changed
        with pytest.raises(IdempotencyMismatch):
            await broker.publish(note(), Idempotency("k1", "another"))
        assert len((await opened(broker)).lasts) == 3
        assert (await opened(broker)).cursor.seq == receipt.seq


async def test_a_restart_keeps_what_was_forgotten_and_trimmed(path: Path) -> None:
    async with running(path) as broker:
        start = (await broker.publish(note(subject="old"))).seq
        await broker.create_task(new_task(["user:ann", "user:bob"]))
        await broker.mark("ann", ANN, "all", [])
        cursor = (await opened(broker)).cursor
        for _ in range(HISTORY + 2):
            await broker.publish(note("group:staff"))
        trimmed = await opened(broker, cursor)
        await broker.forget("ann")
        assert cursor.seq == start
    async with running(path) as broker:
        assert trimmed.verdict == (await opened(broker, cursor, user="carl")).verdict == "history_trimmed"
        newest = (await opened(broker, user="bob")).cursor
        assert (await broker.open("ann", ["user:ann"], newest)).verdict == "ok"
        assert (await broker.open("ann", ["user:ann"], cursor)).verdict == "history_trimmed"
        assert [task.to for task in await broker.tasks("bob", ["user:bob"])] == [("user:bob",)]
        assert await broker.tasks("ann", ANN) == []
        assert len(await listed(broker, "ann")) == HISTORY
        assert "ann" not in broker._marks


async def test_a_smaller_history_shrinks_a_log_at_its_next_events(path: Path) -> None:
    def kept(broker: SqliteBroker) -> tuple[object, ...]:
        log = broker._history.log("all")
        return [[(entry.seq, entry.frame) for entry in kind] for kind in (log.messages, log.events)], log.low, log.last

    async with running(path, history=History(20, 20, 3600)) as broker:
        for _ in range(20):
            await broker.publish(note("all"))
            await broker.publish(custom(to=["all"], event_type="x"))
        newest = (await opened(broker)).cursor
        assert newest.seq == 40
    async with running(path) as broker:
        await broker.publish(note("all"))
        await broker.publish(custom(to=["all"], event_type="x"))
        shrunk = kept(broker)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        stored = [seq for (seq,) in connection.execute("SELECT seq FROM log WHERE channel = 'all' ORDER BY seq")]
    assert stored == list(range(33, 43))
    async with running(path) as broker:
        assert kept(broker) == shrunk
        assert len(await listed(broker)) == HISTORY
        assert (await opened(broker, Cursor(newest.epoch, 31))).verdict == "history_trimmed"
        assert (await opened(broker, Cursor(newest.epoch, 32))).verdict == "ok"


async def test_expired_channels_leave_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(passed_s=0.0)
    clock.time = lambda: time.time() + clock.passed_s
    clock.monotonic = lambda: time.monotonic() + clock.passed_s
    monkeypatch.setattr(embedded_broker, "time", clock)
    monkeypatch.setattr(embedded_history, "time", clock)
    monkeypatch.setattr(embedded_sweep, "time", clock)
    async with running(path) as broker:
        for number in range(20):
            await broker.publish(note(f"user:u{number}"))
        start = (await opened(broker)).cursor
        await broker.publish(note())
    clock.passed_s = 5 * 3600
    async with running(path) as broker:
        assert not (await opened(broker, start)).recovered  # the log is emptied, by a call that only reads
    async with running(path) as broker:
        assert not (await opened(broker, start)).recovered
        clock.passed_s = 15 * 3600
        for _ in range(20):
            await broker.publish(note("user:bob"))
    async with running(path) as broker:
        assert set(broker._stored.waiting()) == {"user:bob"}
        assert not (await opened(broker, start)).recovered


async def test_a_stored_log_is_decoded_when_it_is_used(path: Path) -> None:
    async with running(path) as broker:
        for name in ("ann", "bob", "carl"):
            await broker.publish(note(f"user:{name}"))
    async with running(path) as broker:
        await broker.publish(note("user:bob"))
        assert set(broker._stored.waiting()) == {"user:ann", "user:carl"}
        assert len(await listed(broker, "bob")) == 2


@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_a_log_is_the_same_read_from_either_end(path: Path, order: str) -> None:
    async with running(path) as broker:
        for turn in range(2 * HISTORY):
            await broker.publish(note("all") if turn % 2 else custom(to=["all"], event_type="x"))
        left = broker._history.log("all")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        (stored,) = connection.execute(f"{rows.LOGS} {order}")
    assert stored[:2] == (b"all", left.last)
    assert rows.appended_s_of(stored[2]) == int(left.appended_s * 1000) / 1000
    log, skipped = rows.log_of(stored[2], left.last)
    assert (skipped, log.last, log.low) == (0, left.last, left.low)
    for kind, kept in ((log.messages, left.messages), (log.events, left.events)):
        assert len(kind) == HISTORY
        assert [(entry.seq, entry.frame) for entry in kind] == [(entry.seq, entry.frame) for entry in kept]


@pytest.mark.parametrize("channels", [0, 1, 2, 9, 10])
async def test_two_threads_read_the_logs_until_they_meet(
    path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    names = [f"user:u{number}" for number in range(channels)]
    async with running(path) as broker:
        for name in names:
            await broker.publish(note(name))
    read: dict[str, list[str]] = {"ASC": [], "DESC": []}
    paces = threading.Barrier(2)

    class Paced(sqlite3.Connection):
        """Reads a log when the other thread does, until one of them has ended."""

        def execute(self, query: str, *parameters: Any) -> Any:
            cursor = super().execute(query, *parameters)
            return self._logs(cursor, query.rpartition(" ")[2]) if query.startswith(rows.LOGS) else cursor

        def _logs(self, cursor: sqlite3.Cursor, order: str) -> Iterator[Any]:
            try:
                for row in cursor:
                    with contextlib.suppress(threading.BrokenBarrierError):
                        paces.wait()
                    read[order].append(row[0].decode())
                    yield row
            finally:
                paces.abort()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Paced))
    async with running(path) as broker:
        assert sorted(broker._stored.waiting()) == names
        assert (await opened(broker)).cursor.seq == channels
    assert read["ASC"] == names[: len(read["ASC"])]
    assert read["DESC"] == names[::-1][: len(read["DESC"])]
    assert channels <= len(read["ASC"]) + len(read["DESC"]) <= channels + 4


# Group commit


class Gate:
    """Holds the transactions of a file back until it is opened; then they may also fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.error: Exception | None = None
        self.groups: list[int] = []
        commit = File.commit

        def gated(file: File, changes: list[tuple[str, tuple[object, ...]]]) -> None:
            self.open.wait(10)
            if self.error is not None:
                raise self.error
            self.groups.append(len(changes))
            commit(file, changes)

        monkeypatch.setattr(File, "commit", gated)


@pytest.fixture
async def gated(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SqliteBroker, Recorder, Gate]]:
    sink = Recorder()
    async with running(path, sink) as broker:
        await broker.subscribe(ANN)
        gate = Gate(monkeypatch)
        yield broker, sink, gate
        gate.error = None
        gate.open.set()


@contextlib.contextmanager
def no_room_for_the_lock_file(broker: SqliteBroker) -> Iterator[None]:
    """Every write of the lock file fails as on a full disk; the lock stays."""
    lock = broker._writer._file._lock._file
    kept, full = os.dup(lock), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, lock)
    os.close(full)
    try:
        yield
    finally:
        os.dup2(kept, lock)
        os.close(kept)


READS: dict[str, Callable[[Broker], object]] = {
    "open": opened,
    "inbox": listed,
    "unread": lambda broker: broker.unread("ann", ANN),
    "tasks": lambda broker: broker.tasks("ann", ANN),
    "task": lambda broker: broker.task("t-1"),
    "mark": lambda broker: broker.mark("ann", ANN, "all", []),
    "the same key": lambda broker: broker.publish(note(), Idempotency("k", "body")),
}


@pytest.mark.parametrize("read", READS)
async def test_what_is_not_on_the_disk_is_neither_announced_nor_answered_nor_read(
    gated: tuple[SqliteBroker, Recorder, Gate], read: str
) -> None:
    broker, sink, gate = gated
    publishing = asyncio.ensure_future(broker.publish(note(subject="first"), Idempotency("k", "body")))
    creating = asyncio.ensure_future(broker.create_task(new_task(task_id="t-1")))
    await asyncio.sleep(0)
    reading = asyncio.ensure_future(READS[read](broker))  # type: ignore[arg-type]
    done, _ = await asyncio.wait([publishing, creating, reading], timeout=0.1)
    assert (done, sink.events, sink.states) == (set(), [], [])
    gate.open.set()
    await asyncio.gather(publishing, creating, reading)
    assert [seq for _, seq, _ in sink.events] == [publishing.result().seq]
    assert len(sink.states) >= 1


async def test_events_without_history_keep_their_place_among_those_with(
    gated: tuple[SqliteBroker, Recorder, Gate],
) -> None:
    broker, sink, gate = gated
    order: list[str] = []
    sink.deliver = lambda *args: order.append("durable")  # type: ignore[method-assign]
    sink.deliver_state = lambda *args: order.append("not")  # type: ignore[method-assign]
    calls = [broker.publish(custom(to=["all"], event_type="x", durable=number % 2 == 0)) for number in range(6)]
    publishing = asyncio.gather(*calls)
    await asyncio.sleep(0.05)
    gate.open.set()
    await publishing
    assert order == ["durable", "not"] * 3


async def test_calls_that_come_during_a_transaction_share_the_next(gated: tuple[SqliteBroker, Recorder, Gate]) -> None:
    broker, _, gate = gated
    first = asyncio.ensure_future(broker.publish(note()))
    await asyncio.sleep(0.02)
    others = [asyncio.ensure_future(broker.publish(note(f"user:u{number}"))) for number in range(30)]
    await asyncio.sleep(0.02)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.groups == [1, 30]


async def test_a_batch_needs_no_task_for_each_event(path: Path) -> None:
    async with running(path) as broker:
        tasks = list[str]()

        def counted(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            tasks.append(coro.__qualname__)
            return asyncio.Task(coro, loop=loop, **options)

        at_once = broker.submit(custom(to=["all"], event_type="x", durable=False))
        assert isinstance(at_once, Receipt), "nothing waits for the disk"
        asyncio.get_running_loop().set_task_factory(counted)
        try:
            answers = broker.submit_all([(note(), None) for _ in range(100)])
            receipts = await asyncio.gather(*answers)  # type: ignore[arg-type]
        finally:
            asyncio.get_running_loop().set_task_factory(None)
        assert [receipt.seq for receipt in receipts] == list(range(1, 101))
        assert tasks == []


async def test_a_caller_that_gives_up_does_not_disturb_the_others(gated: tuple[SqliteBroker, Recorder, Gate]) -> None:
    broker, _, gate = gated
    callers = [asyncio.ensure_future(broker.publish(note())) for _ in range(3)]
    await asyncio.sleep(0.02)
    callers[1].cancel()
    gate.open.set()
    receipts = await asyncio.gather(callers[0], callers[2])
    assert [receipt.seq for receipt in receipts] == [1, 3]
    assert len(await listed(broker)) == 3


async def test_an_unexpected_error_of_the_thread_ends_the_broker(gated: tuple[SqliteBroker, Recorder, Gate]) -> None:
    broker, sink, gate = gated
    gate.error = RuntimeError("a defect")
    gate.open.set()
    failing = asyncio.ensure_future(broker.failed())
    with pytest.raises(Exception, match="a defect"):
        await broker.publish(note())
    with pytest.raises(RuntimeError, match="a defect"):
        await failing
    assert (broker.ready, sink.away) == (False, [True])
    await until(lambda: broker._writer._thread is not None and not broker._writer._thread.is_alive())


async def test_a_file_that_cannot_be_written_refuses_calls_and_then_keeps_those_that_were_waiting(
    gated: tuple[SqliteBroker, Recorder, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    broker, sink, gate = gated
    publishing = [asyncio.ensure_future(broker.publish(note(), Idempotency("k", "body")))]
    await asyncio.sleep(0.02)
    publishing.append(asyncio.ensure_future(broker.publish(note())))  # in the group after it
    await asyncio.sleep(0.02)
    gate.error = sqlite3.OperationalError("database or disk is full")
    gate.open.set()
    for waiting in publishing:
        with pytest.raises(BrokerUnavailable, match="disk is full"):
            await waiting
    for read in READS.values():
        with pytest.raises(BrokerUnavailable, match="disk is full"):
            await read(broker)  # type: ignore[misc]
    assert (broker.ready, sink.away, sink.events, sink.resyncs) == (False, [True], [], [])
    await broker.disconnect("ann")
    assert sink.ended == [("user:ann", "revoked")]
    gate.error = None
    await until(lambda: broker.ready)
    assert (sink.away, sink.resyncs) == ([True, False], [(None, None)])
    assert [seq for _, seq, _ in sink.events] == [1, 2]
    assert (await broker.publish(note(), Idempotency("k", "body"))).seq == 1
    assert len(await listed(broker)) == 2


async def test_a_lock_file_that_cannot_be_written_refuses_calls_and_its_group_is_committed_once(
    gated: tuple[SqliteBroker, Recorder, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    broker, sink, gate = gated
    gate.open.set()
    failing = asyncio.ensure_future(broker.failed())
    with no_room_for_the_lock_file(broker):
        with pytest.raises(BrokerUnavailable, match="No space left"):
            await broker.publish(note(), Idempotency("k", "body"))
        with pytest.raises(BrokerUnavailable, match="No space left"):
            await broker.publish(note())
        assert (broker.ready, sink.away, sink.events, failing.done()) == (False, [True], [], False)
    await until(lambda: broker.ready)
    assert (sink.away, sink.resyncs, len(gate.groups)) == ([True, False], [(None, None)], 1)
    assert (await broker.publish(note(), Idempotency("k", "body"))).seq == 1
    assert (await broker.publish(note())).seq == 2
    assert [seq for _, seq, _ in sink.events] == [1, 2]
    assert not failing.done()
    failing.cancel()


async def test_a_restart_without_the_newest_note_goes_on(path: Path) -> None:
    async with running(path) as broker:
        await broker.publish(note())
        cursor = (await opened(broker)).cursor
        with no_room_for_the_lock_file(broker):
            with pytest.raises(BrokerUnavailable, match="No space left"):
                await broker.publish(note(subject="stored"))
            copy = shutil.copytree(path.parent, path.parent / "killed")
    async with running(copy / path.name) as broker:
        assert subjects(await opened(broker, cursor)) == ["stored"]


async def test_a_transaction_that_ends_after_the_broker_was_closed_does_not_open_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TIMEOUT_S", 0.05)
    sink = Recorder()
    broker = SqliteBroker(path, **LIMITS)
    await broker.start(sink)
    gate = Gate(monkeypatch)
    with pytest.raises(BrokerUnavailable, match="did not answer"):
        await broker.publish(note())
    closing = asyncio.ensure_future(broker.close())
    await until(broker._writer._stopping.is_set)
    gate.open.set()
    await closing
    assert len(gate.groups) == 1
    assert (broker.ready, sink.away) == (False, [True])
    with pytest.raises(BrokerUnavailable, match="it is closed"):
        await broker.publish(note())


async def test_a_disk_that_hangs_is_away_until_it_answers(
    gated: tuple[SqliteBroker, Recorder, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TIMEOUT_S", 0.05)
    broker, sink, gate = gated
    with pytest.raises(BrokerUnavailable, match="did not answer"):
        await broker.publish(note())
    assert (broker.ready, sink.away) == (False, [True])
    gate.open.set()
    await until(lambda: broker.ready)
    assert (sink.away, len(sink.events), len(await listed(broker))) == ([True, False], 1, 1)
