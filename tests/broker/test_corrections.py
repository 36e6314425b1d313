"""The contract of brokers: messages are replaced by their key, retracted, and corrected in place."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from notifier.broker import Broker
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import Opening
from notifier.errors import InvalidInput
from notifier.event import custom
from notifier.exclusion import Exclusion
from notifier.message import corrected, message_of
from tests.broker.conftest import LIMITS
from tests.broker.support import ANN, HISTORY, Recorder, listed, note, opened, subjects, until


def messages(opening: Opening) -> list[dict[str, Any]]:
    return [message for _, frame in opening.replay if (message := message_of(frame)) is not None]


def with_text(text: str) -> Any:
    return lambda stored: corrected(stored, {"text": text})


# The key


async def test_a_message_replaces_the_earlier_one_with_its_key(broker: Broker, sink: Recorder) -> None:
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    start = (await opened(broker)).cursor
    for subject in ("first", "second", "third"):
        await broker.publish(note(subject=subject, id=subject, key="order"))
    await broker.publish(note(subject="other", key="another"))
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening), opening.unread) == ("ok", ["third", "other"], 2)
    assert [message.get("replaces") for message in messages(opening)] == ["second", None]
    assert await listed(broker) == [("other", False), ("third", False)]
    await until(lambda: len(sink.events) == 4)
    announced = [message_of(wire.partition(b"\n")[2]) for _, _, wire in sink.events]
    assert [message and message.get("replaces") for message in announced] == [None, "first", "second", None]
    assert sink.resyncs == []


async def test_a_key_replaces_in_its_own_channel_only(broker: Broker) -> None:
    await broker.publish(note("user:ann", subject="own", key="order"))
    await broker.publish(note(["group:staff", "all"], subject="of all", key="order"))
    await broker.publish(note("all", subject="newest", key="order"))
    assert await listed(broker) == [("newest", False), ("of all", False), ("own", False)]


async def test_a_replaced_message_leaves_the_unread_count_and_its_read_mark(broker: Broker) -> None:
    await broker.publish(note(subject="old", id="old", key="order"))
    assert (await broker.mark("ann", ANN, "read", ["old"])).unread == 0
    await broker.publish(note(subject="new", id="new", key="order"))
    assert (await broker.unread("ann", ANN), await listed(broker)) == (1, [("new", False)])
    await broker.mark("ann", ANN, "all", [])
    await broker.publish(note(subject="newest", key="order"))
    assert await broker.unread("ann", ANN) == 1


async def test_a_repeat_with_the_same_id_and_key_replaces_nothing(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    for _ in range(2):
        await broker.publish(note(subject="same", id="m1", key="order", may_repeat=True))
    opening = await opened(broker, start)
    assert [message.get("replaces") for message in messages(opening)] == [None]
    assert (opening.unread, await listed(broker)) == (1, [("same", False)])


async def test_keys_keep_the_history_within_its_bounds(broker: Broker) -> None:
    """Replaced messages take no place: the others stay."""
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="kept"))
    for number in range(3 * HISTORY):
        await broker.publish(note(subject=f"{number}", key="counter"))
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening)) == ("ok", ["kept", f"{3 * HISTORY - 1}"])
    for number in range(HISTORY - 2):
        await broker.publish(note(subject=f"more {number}"))
    assert (await opened(broker, start)).verdict == "ok"
    await broker.publish(note(subject="too many"))
    assert (await opened(broker, start)).verdict == "history_trimmed"


# Retracted


async def test_a_retracted_message_is_in_no_history_inbox_and_count(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["user:ann"])
    await broker.subscribe([topic])
    start = (await opened(broker)).cursor
    for subject in ("a", "b", "c"):
        await broker.publish(note(subject=subject, id=subject))
    assert await broker.unread("ann", ANN) == 3
    for _ in range(2):  # a repeat changes nothing
        await broker.retract("b", ["user:ann", "group:staff"])
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening), opening.unread) == ("ok", ["a", "c"], 2)
    assert (await listed(broker), await broker.unread("ann", ANN)) == ([("c", False), ("a", False)], 2)
    await until(lambda: sink.retracted)
    assert sink.retracted == [(topic, "b")]


async def test_the_newest_message_and_the_last_one_can_be_retracted(broker: Broker, sink: Recorder) -> None:
    """No cursor is reset, and later events follow without a hole."""
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    start = (await opened(broker)).cursor
    await broker.publish(custom(to=["user:ann"], event_type="changed"))
    await broker.publish(note(id="a"))
    after_a = (await opened(broker)).cursor
    await broker.publish(note(id="b"))
    after_b = (await opened(broker)).cursor
    await broker.retract("b", ["user:ann"])
    await broker.retract("a", ["user:ann"])
    for cursor in (start, after_a, after_b):
        opening = await opened(broker, cursor)
        assert (opening.verdict, subjects(opening), opening.unread) == ("ok", [], 0)
    await broker.publish(note(subject="next"))
    for cursor in (start, after_a, after_b):
        opening = await opened(broker, cursor)
        assert (opening.verdict, subjects(opening)) == ("ok", ["next"])
    assert await listed(broker) == [("next", False)]
    await until(lambda: len(sink.events) == 4)
    assert sink.resyncs == []


async def test_a_message_is_retracted_from_groups_and_all(broker: Broker) -> None:
    await broker.publish(note(["group:staff", "all", "user:ann"], subject="gone", id="m1"))
    await broker.publish(note("all", subject="stays"))
    await broker.retract("m1", ["group:staff", "all", "user:ann"])
    for user in ("ann", "bob"):
        assert await listed(broker, user=user) == [("stays", False)]


# Corrected


async def test_a_message_is_corrected_in_place(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["user:ann"])
    await broker.subscribe([topic])
    start = (await opened(broker)).cursor
    for subject in ("a", "b", "c"):
        await broker.publish(note(subject=subject, id=subject, text="old"))
    await broker.mark("ann", ANN, "read", ["b"])
    for _ in range(2):  # a repeat changes nothing
        (frame,) = await broker.correct("b", ["user:ann", "group:staff"], with_text('new "text"'))
    assert json.loads(frame.split("data: ")[1])["text"] == 'new "text"'
    opening = await opened(broker, start)
    assert (opening.verdict, subjects(opening), opening.unread) == ("ok", ["a", "b", "c"], 2)
    assert [(message["text"], message.get("edited")) for message in messages(opening)] == [
        ("old", None), ('new "text"', True), ("old", None),
    ]  # fmt: skip
    assert await listed(broker) == [("c", False), ("b", True), ("a", False)]
    await until(lambda: len(sink.states) == 2)  # the mark and the correction
    assert [(name, message_of(wire)) for name, _, wire in sink.states][1] == (topic, messages(opening)[1])
    await broker.publish(note(subject="d"))
    assert subjects(await opened(broker, start)) == ["a", "b", "c", "d"]


async def test_a_correction_is_announced_to_no_excluded_user(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["all"])
    await broker.subscribe([topic])
    await broker.publish(note("all", id="m1", excluded=Exclusion(frozenset(["ann", "b c"]))))
    await broker.correct("m1", ["all"], with_text("new"))
    await until(lambda: sink.states)
    assert sink.excluded == [Exclusion(frozenset(["ann", "b c"]))] * 2
    assert await listed(broker) == []


async def test_a_correction_of_a_message_that_is_not_there_answers_nothing(broker: Broker) -> None:
    assert await broker.correct("m1", ["user:ann"], with_text("new")) == []


async def test_an_expired_message_is_not_corrected(broker: Broker, sink: Recorder) -> None:
    """Open pages have removed it; a new frame would show it again."""
    await broker.subscribe(broker.topics("ann", ["user:ann"]))
    until_s = time.time() + 0.2
    await broker.publish(note(id="m1", expires_at=datetime.fromtimestamp(until_s, UTC).isoformat()))
    await until(lambda: time.time() > until_s + 0.1)
    assert await broker.correct("m1", ["user:ann"], with_text("new")) == []
    await broker.publish(note(id="m2"))
    assert len(await broker.correct("m2", ["user:ann"], with_text("new"))) == 1
    await until(lambda: sink.states)
    assert [message and message["id"] for message in (message_of(wire) for _, _, wire in sink.states)] == ["m2"]


async def test_a_message_to_many_channels_is_corrected_and_retracted_in_each(broker: Broker) -> None:
    channels = [f"group:g{place}" for place in range(60)]
    await broker.publish(note([*channels[1:40], channels[-1]], id="m1", text="old"))
    for _ in range(2):
        frames = await broker.correct("m1", channels, with_text("new"))
        assert {frame.partition('"to":"')[2].partition('"')[0] for frame in frames} == {*channels[1:40], channels[-1]}
    opening = await broker.open("ann", ("user:ann", channels[-1]), None)
    assert opening.unread == 1
    for _ in range(2):
        await broker.retract("m1", channels)
    for channel in (channels[1], channels[30], channels[-1]):
        assert (await broker.open("ann", ("user:ann", channel), None)).unread == 0
    assert await broker.correct("m1", channels, with_text("newer")) == []


async def test_a_refused_correction_changes_nothing(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(id="m1", text="old"))
    with pytest.raises(InvalidInput):
        await broker.correct("m1", ["user:ann"], lambda stored: corrected(stored, {"level": "loud"}))
    assert [message["text"] for message in messages(await opened(broker, start))] == ["old"]


async def test_concurrent_corrections_of_one_message_lose_none(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note(id="m1", text="old", subject="old"))
    changes: list[dict[str, Any]] = [{"text": "new"}, {"subject": "new"}, {"level": "error"}, {"url": "/new"}]
    await asyncio.gather(
        *(broker.correct("m1", ["user:ann"], partial(corrected, changes=change)) for change in changes)
    )
    (message,) = messages(await opened(broker, start))
    assert {name: message[name] for name in ("text", "subject", "level", "url")} == {
        "text": "new", "subject": "new", "level": "error", "url": "/new",
    }  # fmt: skip


async def test_a_restart_keeps_replaced_retracted_and_corrected_messages(tmp_path: Path) -> None:
    broker = SqliteBroker(tmp_path / "notifier.db", **LIMITS)
    await broker.start(Recorder())
    start = (await opened(broker)).cursor
    await broker.publish(note(subject="first", key="a key", id="k1"))
    await broker.publish(note(subject="corrected", id="m1"))
    await broker.publish(note(subject="second", key="a key", id="k2"))
    await broker.publish(note(subject="retracted", id="m2"))
    newest = (await opened(broker)).cursor
    await broker.correct("m1", ["user:ann"], with_text("new"))
    await broker.retract("m2", ["user:ann"])
    broker = await restarted(broker, tmp_path)
    opening = await opened(broker, start)
    assert (opening.verdict, (await opened(broker, newest)).verdict) == ("ok", "ok")
    assert [(each["subject"], each["text"]) for each in messages(opening)] == [("corrected", "new"), ("second", "")]
    await broker.publish(note(subject="third", key="a key"))
    broker = await restarted(broker, tmp_path)
    assert (subjects(await opened(broker, newest)), broker.skipped) == (["third"], 0)
    assert await listed(broker) == [("third", False), ("corrected", False)]
    await broker.close()


async def restarted(broker: SqliteBroker, folder: Path) -> SqliteBroker:
    await broker.close()
    again = SqliteBroker(folder / "notifier.db", **LIMITS)
    await again.start(Recorder())
    return again
