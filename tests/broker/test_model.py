"""A state machine that calls brokers at random and compares them with a model of a few lines.

A replay is exactly the events published after the cursor, in order, or the opening is a reset. Without a reason
(trimmed, tampered, wiped), an opening must not be a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from notifier.broker import Broker
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Address
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.places import One
from notifier.broker.sqlite.broker import SqliteBroker
from notifier.broker.values import History, Opening
from notifier.errors import InvalidInput
from notifier.event import Cursor, Event, custom
from notifier.message import message_event
from tests.broker.support import Recorder
from tests.support import RedisServer

KINDS = ["log", "events"]
"""Messages and other durable events, by the names of their logs in Redis: each has a history of its own."""
CHANNELS = ["user:ann", "user:bob", "group:staff", "all"]
HEARS = {"ann": ("user:ann", "group:staff", "all"), "bob": ("user:bob", "all")}
SIZES = {"log": 4, "events": 3}
MAX_REPLAY = 9

users = st.sampled_from(sorted(HEARS))
some_channels = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True)


class BrokerMachine(RuleBasedStateMachine):
    """The model: the stored events of each channel in order, and the newest seq that was trimmed."""

    make: Callable[[str], Broker]
    redis_server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.prefix = f"m{uuid.uuid4().hex[:10]}:"
        self.keys = Keys(self.prefix)
        self.published: dict[tuple[str, str], list[tuple[int, str, float]]] = {
            (kind, channel): [] for kind in KINDS for channel in CHANNELS
        }
        self.trimmed: dict[str, int] = dict.fromkeys(CHANNELS, 0)
        self.cursors: list[Cursor] = []
        self.tampered_at = -1
        """Cursors up to this seq may get a reset."""
        self.epoch = ""
        self.started = False

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.broker = type(self).make(self.prefix)
        self.run(self.broker.start(Recorder()))
        self.cursors.append(self.run(self.broker.open("ann", HEARS["ann"], None)).cursor)
        self.epoch = self.cursors[0].epoch
        self.started = True

    def teardown(self) -> None:
        if self.started:
            self.run(self.broker.close())
        if self.redis_server is not None:
            with self.redis_server.client() as client:
                client.flushall()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    @rule(to=some_channels)
    def publish_an_event(self, to: list[str]) -> None:
        subject = uuid.uuid4().hex
        self._publish("events", custom(to=to, event_type="x", data={"subject": subject}), subject, float("inf"))

    @rule(to=some_channels, brief=st.booleans())
    def publish_a_message(self, to: list[str], brief: bool) -> None:
        subject = uuid.uuid4().hex
        expires, event = float("inf"), None if brief else message_event({"to": to, "subject": subject})
        while event is None:
            expires, until = time.time() + 0.02, datetime.now(UTC) + timedelta(seconds=0.02)
            with contextlib.suppress(InvalidInput):  # on a busy machine, the time has passed already
                event = message_event({"to": to, "subject": subject, "expires_at": until})
        self._publish("log", event, subject, expires)

    def _publish(self, kind: str, event: Event, subject: str, expires: float) -> None:
        receipt = self.run(self.broker.publish(event))
        self.cursors.append(Cursor(receipt.epoch, receipt.seq))
        if receipt.epoch != self.epoch:
            assert self.tampered_at >= 0, "the epoch changed for no reason"
            self.epoch = receipt.epoch
        for channel in event.to:
            stored = self.published[kind, channel]
            stored.append((receipt.seq, subject, expires))
            if len(stored) > SIZES[kind]:
                self.trimmed[channel] = max(self.trimmed[channel], stored.pop(0)[0])

    @rule(user=users, data=st.data())
    def return_with_a_cursor(self, user: str, data: st.DataObject) -> None:
        cursor = data.draw(st.sampled_from(self.cursors))
        before = time.time()
        opening = self._replayed(user, cursor, data.draw(st.sampled_from([0, 1, 600])))
        due: dict[int, tuple[str, float]] = {}
        stored = self._stored(user, *KINDS)
        for seq, subject, expires in stored:
            if seq > cursor.seq:
                due[seq] = (subject, expires)
        if opening.recovered:
            assert cursor.epoch == opening.cursor.epoch
            replayed = [(seq, json.loads(frame.partition(b"data: ")[2])["subject"]) for seq, frame in opening.replay]
            assert [seq for seq, _ in replayed] == sorted(seq for seq, _ in replayed)
            surely = [(seq, subject) for seq, (subject, expires) in sorted(due.items()) if expires > before + 0.5]
            perhaps = {(seq, subject) for seq, (subject, _) in due.items()}
            assert set(surely) <= set(replayed) <= perhaps, "a silently short replay"
            assert len(replayed) == len(set(replayed))
            assert all(self.trimmed[channel] <= cursor.seq for channel in HEARS[user])
        else:
            trimmed = any(self.trimmed[channel] > cursor.seq for channel in HEARS[user])
            entries = sum(seq > cursor.seq for seq, _, _ in stored)
            reason = trimmed or cursor.epoch != opening.cursor.epoch or entries > MAX_REPLAY
            assert reason or cursor.seq <= self.tampered_at, f"a reset for no reason: {opening.verdict}"
            assert not opening.replay

    def _replayed(self, user: str, cursor: Cursor, portion_bytes: int) -> Opening:
        """The opening whose replay is that of all portions."""
        opening = self.run(self.broker.open(user, HEARS[user], cursor, portion_bytes=portion_bytes))
        replay = list(opening.replay)
        while opening.more:
            assert opening.replay
            last = opening.cursor
            opening = self.run(
                self.broker.open(user, HEARS[user], last, portion_bytes=portion_bytes, continued=True),
            )
            assert opening.recovered
            replay += opening.replay
        return dataclasses.replace(opening, replay=replay)

    @rule(user=users, text=st.sampled_from(["", "x", "e-", "-1", "1-1-1", "e-99999999999999999999", "E-1"]))
    def return_with_nonsense(self, user: str, text: str) -> None:
        opening = self.run(self.broker.open(user, HEARS[user], text))
        assert (opening.verdict, list(opening.replay)) == ("cursor_unknown", [])

    @rule(user=users, ahead=st.integers(1, 1000))
    def return_from_the_future(self, user: str, ahead: int) -> None:
        top = self.run(self.broker.open(user, HEARS[user], None)).cursor
        opening = self.run(self.broker.open(user, HEARS[user], Cursor(top.epoch, top.seq + ahead)))
        assert opening.verdict == "cursor_unknown"

    @rule(user=users)
    def the_inbox_lists_the_stored_messages(self, user: str) -> None:
        before = time.time()
        page = self.run(self.broker.inbox(user, HEARS[user], limit=100, before=None, unread_only=False))
        listed = [message["subject"] for message in page.messages]
        stored = {seq: (subject, expires) for seq, subject, expires in self._stored(user, "log")}
        surely = [subject for _, (subject, expires) in sorted(stored.items(), reverse=True) if expires > before + 0.5]
        assert len(listed) == len(set(listed))
        if self.tampered_at < 0:
            assert [subject for subject in listed if subject in surely] == surely
            assert set(listed) <= {subject for subject, _ in stored.values()}
        assert page.unread == len(listed)

    def _stored(self, user: str, *kinds: str) -> list[tuple[int, str, float]]:
        return [row for kind in kinds for channel in HEARS[user] for row in self.published[kind, channel]]

    def _tampered(self) -> None:
        self.tampered_at = max((cursor.seq for cursor in self.cursors), default=0)

    @precondition(lambda self: self.redis_server is not None)
    @rule(channel=st.sampled_from(CHANNELS), what=st.sampled_from([*KINDS, "meta"]))
    def a_key_vanishes(self, channel: str, what: str) -> None:
        """Only one key: without meta and logs, a channel looks like one that never had events."""
        assert self.redis_server is not None
        others = KINDS if what == "meta" else ["meta"]
        with self.redis_server.client() as client:
            if not any(client.exists(getattr(self.keys, other)(0, channel)) for other in others):
                return
            client.delete(getattr(self.keys, what)(0, channel))
        self._tampered()
        if what in KINDS:
            stored = self.published[what, channel]
            self.trimmed[channel] = max([self.trimmed[channel], *(seq for seq, _, _ in stored)])
            stored.clear()

    @precondition(lambda self: self.redis_server is not None)
    @rule()
    def everything_is_wiped(self) -> None:
        assert self.redis_server is not None
        with self.redis_server.client() as client:
            for key in client.scan_iter(f"{self.prefix}*"):
                client.delete(key)
        self._forget()

    @precondition(lambda self: self.redis_server is None)
    @rule()
    def the_service_restarts(self) -> None:
        self.run(self.broker.close())
        self.broker = type(self).make(self.prefix)
        self.run(self.broker.start(Recorder()))
        if isinstance(self.broker, MemoryBroker):
            self._forget()
        else:
            assert self.run(self.broker.open("ann", HEARS["ann"], None)).cursor.epoch == self.epoch

    def _forget(self) -> None:
        self._tampered()
        for stored in self.published.values():
            stored.clear()
        self.trimmed = dict.fromkeys(CHANNELS, 0)
        for cursor in self.cursors:
            assert not self.run(self.broker.open("ann", HEARS["ann"], cursor)).recovered
        self.epoch = self.run(self.broker.open("ann", HEARS["ann"], None)).cursor.epoch

    @precondition(lambda self: self.redis_server is not None)
    @rule()
    def another_primary_takes_over(self) -> None:
        """The stored identity is that of another primary, so the epoch is replaced."""
        assert self.redis_server is not None
        with self.redis_server.client() as client:
            client.set(self.keys.identity(0), "another/primary")
        self.run(self.broker.close())
        self.broker = type(self).make(self.prefix)
        self.run(self.broker.start(Recorder()))
        epoch = self.run(self.broker.open("ann", HEARS["ann"], None)).cursor.epoch
        assert epoch != self.epoch
        self.epoch = epoch
        for cursor in self.cursors:
            assert not self.run(self.broker.open("ann", HEARS["ann"], cursor)).recovered


LIMITS = {"history": History(SIZES["log"], SIZES["events"], 3600), "max_replay": MAX_REPLAY}


@pytest.mark.timeout(600)  # 60 examples of 40 steps, each with its own broker: a busy disk makes them slow
@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])
def test_brokers_keep_to_the_model(kind: str, examples: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: RedisServer | None = request.getfixturevalue("small_redis") if kind == "redis" else None

    class Machine(BrokerMachine):
        redis_server = server

        @staticmethod
        def make(prefix: str) -> Broker:
            if kind == "sqlite":
                return SqliteBroker(tmp_path / f"{prefix}.db", synchronous="normal", **LIMITS)
            if server is None:
                return MemoryBroker(**LIMITS)
            return RedisBroker(One(Address.from_url(server.url)), Keys(prefix), **LIMITS)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
