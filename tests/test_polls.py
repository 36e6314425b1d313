"""Polls of one client that follow each other are one record, whichever processes had them and joined them. The state in
an answer is not older than its events."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from notifier.api.poll import PolledStream, _answer
from notifier.auth import Subscriber
from notifier.broker.afterwards import MAX_RECORDS, Trail
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History, Opening
from notifier.connection_records import ConnectionRecords
from notifier.event import Cursor
from notifier.polls import MAX_LIFE_MS, MAX_PAUSE_MS, joined, joined_texts
from notifier.records import Connection, Reset, connection_of, stored
from notifier.task import Task
from notifier.trace import trace
from notifier.unwritten import JOINED
from tests.hubs import EPOCH, ScriptedBroker, announce, running_hub, soon
from tests.test_trace import CHANNELS, connection, result, verdict
from tests.test_trace import stored as place


def poll(opened_ms: int, start: int, to: int, **more: Any) -> Connection:
    """One that came with the cursor `start` and was answered with `to`; what it has it read in the history."""
    fields: dict[str, Any] = {
        "start": start,
        "top": Cursor("e", to),
        "closed_ms": opened_ms + 10,
        "closed_why": "answered",
        "polls": 1,
        "confirmed": Cursor("e", start),
        "replayed": to - start,
    }
    return connection(opened_ms, start, to, **{**fields, **more})


def test_polls_that_follow_each_other() -> None:
    stream = connection(500, 1, 2, closed_ms=600)
    (before, whole) = joined([stream, poll(1000, 2, 2), poll(2000, 2, 4), poll(3000, 4, 4)])
    assert before == stream
    assert (whole.polls, whole.opened_ms, whole.closed_ms, whole.replayed) == (3, 1000, 3010, 2)
    assert (whole.start, whole.to, whole.confirmed) == (Cursor("e", 2), Cursor("e", 4), Cursor("e", 4))
    waiting = poll(4000, 4, 4, closed_ms=0, closed_why="")
    (whole,) = joined([whole, waiting])
    assert (whole.polls, whole.closed_ms, whole.closed_why) == (4, 0, "")
    assert stored(connection_of(stored(whole)) or stream) == stored(whole)


@pytest.mark.parametrize(
    "other",
    [
        poll(2000, 3, 5),  # the answer of the poll before was lost
        poll(2000, 4, 4, agent="phone"),
        poll(2000, 4, 4, address="192.0.2.1"),
        poll(2000, 4, 4, channels=("user:ann",)),
        poll(1011 + MAX_PAUSE_MS, 4, 4),
        poll(2000, 4, 4, closed_ms=1001 + MAX_LIFE_MS),
        poll(2000, 4, 4, epoch="later", confirmed=Cursor("later", 4)),
        poll(2000, 4, 4, resets=[Reset(2000, 0, 4, "cursor_unknown")] * 5),
        connection(2000, 4, 4, start=4),
    ],
)
def test_other_connections_stay_by_themselves(other: Connection) -> None:
    first = poll(1000, 2, 4, resets=[Reset(1000, 0, 2, "cursor_unknown")])
    assert joined([first, other]) == [first, other]


def test_a_poll_after_one_that_is_open_stays_by_itself() -> None:
    first = poll(1000, 2, 2, closed_ms=0)
    assert len(joined([first, poll(1100, 2, 2)])) == 2


@pytest.mark.parametrize("seed", range(40))
def test_the_polls_of_a_client_become_one_record_in_whatever_order_they_are_joined(seed: int) -> None:
    """Processes join those that they had, and then the stored ones, of which some are written later."""
    chance = random.Random(seed)
    processes = chance.randint(1, 4)
    at, seq = 1000, 5
    unwritten: list[dict[str, str]] = [{} for _ in range(processes)]
    kept: Mapping[str, str] = {}
    count = chance.randint(2, 60)
    for _ in range(count):
        to = seq + chance.choice((0, 0, 1, 3))
        each = poll(at, seq, to)
        unwritten[chance.randrange(processes)][each.id] = stored(each)
        at, seq = at + chance.randint(10, 1000), to
        if chance.random() < 0.2:
            written = unwritten[chance.randrange(processes)]
            kept = joined_texts({**kept, **joined_texts(written)})
            written.clear()
    for written in unwritten:
        kept = joined_texts({**kept, **joined_texts(written)})
    (text,) = joined_texts(kept).values()
    whole = connection_of(text)
    assert whole is not None
    assert (whole.polls, whole.start, whole.to, whole.replayed) == (count, Cursor("e", 5), Cursor("e", seq), seq - 5)
    assert whole.confirmed is not None
    assert whole.closed_ms >= each.closed_ms


def test_the_verdict_on_a_message_that_polls_had() -> None:
    polls = joined([poll(1000, 2, 3), poll(3000, 3, 5), poll(3500, 5, 5)])
    assert len(polls) == 1
    assert verdict(place(3, accepted_ms=900), *polls) == ("replayed", "acknowledged")
    assert verdict(place(5), *polls) == ("written", "acknowledged")
    assert result(place(5), *polls).at_ms == 3000
    last = joined([poll(1000, 2, 3), poll(3000, 3, 5)])
    assert verdict(place(5), *last) == ("written", "unconfirmed")
    assert verdict(place(5), *last, poll(4000, 3, 3, closed_ms=0))[0] == "waiting", "its answer was lost"


def test_a_message_that_ended_between_two_polls_was_not_delivered() -> None:
    polls = joined([poll(1000, 2, 3), poll(3000, 3, 5), poll(3500, 5, 5)])
    assert verdict(place(4, expires_at_ms=2500), *polls) == ("expired", "")
    assert verdict(place(4, expires_at_ms=3001), *polls)[0] == "written"


def test_a_message_that_a_reset_hid_from_a_poll() -> None:
    after = poll(3000, 3, 7, resets=[Reset(3000, 3, 7, "history_trimmed")], replayed=0, top=Cursor("e", 7))
    (whole,) = joined([poll(1000, 2, 3), replace(after, started=Cursor("e", 7))])
    assert verdict(place(5), whole)[0] == "missed_reset"
    assert verdict(place(3), whole)[0] in ("written", "replayed")


def test_what_a_message_waits_for_between_two_polls() -> None:
    def reason(polled: Connection, seq: int, now_ms: int) -> str:
        return trace(Trail("e", [place(seq)], False), CHANNELS, [polled], now_ms=now_ms, ttl_ms=10**6).reason

    polled = poll(1000, 2, 3)
    assert reason(polled, 5, 2000) == "between_polls"
    assert reason(polled, 5, 1011 + MAX_PAUSE_MS) == "offline"
    assert reason(polled, 2, 2000) == "in_inbox"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(history=History(10, 10, 60, 10, 60), max_replay=10)


def polled(user: str, start: int, to: int) -> tuple[PolledStream, Opening]:
    """A poll that has read the history."""
    stream = PolledStream(
        user=user,
        address="192.0.2.1",
        channels=(f"user:{user}",),
        topics=("t",),
        cursor=Cursor(EPOCH, start),
        ends_at=0.0,
        ends_why="expired",
        agent="a",
    )
    return stream, Opening("ok", Cursor(EPOCH, to), (), 0, (), {})


async def test_a_client_that_polls_without_a_pause_fills_no_memory_and_removes_no_other_record(
    broker: MemoryBroker,
) -> None:
    records = ConnectionRecords(broker)
    await broker.afterwards.note({"ann": {"0": "a stream"}}, ttl_s=60)
    count = 20 * MAX_RECORDS
    for number in range(count):
        stream, opening = polled("ann", number, number + 1)
        records.proceed(stream, opening)
        stream.opening, stream.epoch, stream.seq = 0, EPOCH, number + 1
        records.close(stream, "answered")
        assert len(records.texts("ann", ())) < JOINED
        if number % 100 == 0:
            await records.write()
    await records.write()
    first, *rest = await broker.afterwards.records("ann")
    assert first == "a stream"
    (whole,) = joined(each for text in rest if (each := connection_of(text)) is not None)
    assert (whole.polls, whole.to) == (count, Cursor(EPOCH, count))


async def test_an_answer_has_the_state_after_an_event_that_came_while_the_opening_was_read() -> None:
    """The event waits for the opening and is written with it, although the opening's snapshot is older."""
    scripted = ScriptedBroker()
    before = Task("t", "Import", ("all",), "running", "", 1, 4, None, 1000, 1000)
    after = replace(before, done=2, updated_at_ms=2000)
    scripted.gate.clear()
    scripted.tasks_now = (before,)
    async with running_hub(scripted) as hub:
        stream, _ = polled("ann", 0, 0)
        stream.topics = stream.channels = ("all",)
        stream.ends_at = time.monotonic() + 600
        attaching = asyncio.create_task(hub.attach(stream))
        await soon(lambda: scripted.opening_now)
        announce(hub, after)
        scripted.gate.set()
        await attaching
        scripted.tasks_now = (after,)
        answer = await _answer(stream, scripted, Subscriber("ann", None, ("all",), 0.0))  # type: ignore[arg-type]
    assert [event["data"]["done"] for event in answer["events"]] == [2]
    assert [task["done"] for task in answer["tasks"]] == [2]
