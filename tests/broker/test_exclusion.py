"""The contract of brokers: users that a publish leaves out get it neither live, nor by replay, nor in their inbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from notifier.broker import Broker
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.event import custom
from notifier.exclusion import Exclusion
from tests.broker.conftest import LIMITS
from tests.broker.support import ANN, Recorder, listed, note, opened, subjects, until

NOT_ANN = Exclusion(frozenset(["ann", "eve"]))


async def test_an_announcement_names_whom_it_leaves_out(broker: Broker, sink: Recorder) -> None:
    (topic,) = broker.topics("ann", ["group:staff"])
    await broker.subscribe([topic])
    strange = Exclusion(frozenset(["ann", 'a "b" \\ ü c']), "0a1b")
    await broker.publish(note("group:staff", excluded=strange))
    await broker.publish(custom(to=["group:staff"], event_type="changed", durable=False, excluded=strange))
    await broker.publish(note("group:staff"))
    await until(lambda: len(sink.excluded) == 3)
    assert sink.excluded == [strange, strange, None]
    assert (len(sink.events), len(sink.states)) == (2, 1)


async def test_an_excluded_user_gets_no_replay_of_it(broker: Broker) -> None:
    start, of_bob = (await opened(broker)).cursor, (await opened(broker, user="bob")).cursor
    await broker.publish(note("group:staff", subject="not for ann", excluded=NOT_ANN))
    await broker.publish(custom(to=["all"], event_type="changed", excluded=NOT_ANN))
    await broker.publish(note("group:staff", subject="for all"))
    ann, bob = await opened(broker, start), await opened(broker, of_bob, user="bob")
    assert (ann.verdict, subjects(ann), len(ann.replay), ann.missed) == ("ok", ["for all"], 1, 1)
    assert (bob.verdict, subjects(bob), len(bob.replay)) == ("ok", ["not for ann", "for all"], 3)


async def test_a_message_is_not_in_the_inbox_of_a_user_it_leaves_out(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    await broker.publish(note("all", subject="not for ann", excluded=NOT_ANN))
    await broker.publish(note("all", subject="for all"))
    assert await listed(broker) == [("for all", False)]
    assert await listed(broker, user="bob") == [("for all", False), ("not for ann", False)]
    assert (await broker.unread("ann", ANN), (await opened(broker, start)).unread) == (1, 1)
    assert (await opened(broker, user="bob")).unread == 2
    assert (await broker.mark("ann", ANN, "all", [])).unread == 0
    await broker.publish(note("all", subject="later", excluded=NOT_ANN))
    assert await broker.unread("ann", ANN) == 0
    assert await broker.unread("bob", ("user:bob", "group:staff", "all")) == 3


async def test_parts_of_one_message_may_leave_out_different_users(broker: Broker) -> None:
    start = (await opened(broker)).cursor
    same: dict[str, Any] = {"id": "m1", "may_repeat": True}
    await broker.publish(note("group:staff", excluded=NOT_ANN, **same))
    await broker.publish(note("all", subject="to all", **same))
    ann = await opened(broker, start)
    assert (subjects(ann), ann.unread, await listed(broker)) == (["to all"], 1, [("to all", False)])


async def test_a_restart_keeps_whom_an_event_leaves_out(tmp_path: Path) -> None:
    broker = SqliteBroker(tmp_path / "notifier.db", **LIMITS)
    await broker.start(Recorder())
    start = (await opened(broker)).cursor
    await broker.publish(note("all", subject="not for ann", excluded=Exclusion(frozenset(["ann", "b c"]))))
    await broker.close()
    again = SqliteBroker(tmp_path / "notifier.db", **LIMITS)
    await again.start(Recorder())
    assert again.skipped == 0
    assert subjects(await opened(again, start)) == []
    assert subjects(await opened(again, start, user="b c")) == []
    assert subjects(await opened(again, start, user="bob")) == ["not for ann"]
    await again.close()
