"""Presence on topics, in hubs over the embedded broker: what streams see of others."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from notifier import presence as presences
from notifier.broker.memory.broker import MemoryBroker
from notifier.broker.values import History
from notifier.errors import BrokerUnavailable
from notifier.grants import Change
from notifier.hub import Hub
from notifier.people import Lease, Person, Present, by_user, change_between, everyone
from notifier.stream import Stream
from tests.faults.clients import until
from tests.hubs import body_of, running_hub, stream_on
from tests.test_stream import Wall

TOPIC = "topic:order:42"


class PartlyAway(MemoryBroker):
    """Of some channels the shard is away; of some, others cannot be told at first."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.away: set[str] = set()
        self.untold: list[str] = []
        self.asked: Counter[str] = Counter()

    async def lease(self, channel: str, leases: Sequence[Lease]) -> bool:
        self._check(channel)
        await super().lease(channel, leases)
        self.asked[f"lease {channel} {len(leases)}"] += 1
        if channel in self.untold:
            self.untold.remove(channel)
            return True
        return False

    async def people(self, channel: str) -> Sequence[Present]:
        self.asked[channel] += 1
        self._check(channel)
        return await super().people(channel)

    def _check(self, channel: str) -> None:
        if channel in self.away:
            raise BrokerUnavailable("the shard is away")


def broker_of(hub: Hub) -> PartlyAway:
    broker = hub.people._broker
    assert isinstance(broker, PartlyAway)
    return broker


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """Its waits are a tenth of those of the service, so that the tests are short."""
    for name in ("LEASE_S", "RENEW_EVERY_S", "GRACE_S", "LOOK_EVERY_S", "RETRY_S", "TICK_S"):
        monkeypatch.setattr(presences, name, getattr(presences, name) / 10)
    for name in ("LOOK_AT_NUMBERS_EVERY_S", "LOOK_AT_MANY_EVERY_S"):
        monkeypatch.setattr(presences, name, getattr(presences, name) / 10)
    monkeypatch.setattr("notifier.grants.GRACE_S", presences.GRACE_S)
    broker = PartlyAway(history=History(50, 50, 3600), max_replay=100)
    async with running_hub(broker) as running:
        await broker.start(running)
        yield running


class Page:
    """A stream that hears the topic, and what it was told of the people there."""

    def __init__(self, hub: Hub, user: str, *, topics: tuple[str, ...] = ("all",)) -> None:
        self.hub = hub
        self.wall = Wall()
        self.stream: Stream = stream_on(self.wall, user=user, topics=topics)

    async def open(self, name: str | None = None, *, seen: bool = True, topic: str = TOPIC, ttl_s: float = 60) -> Page:
        self.hub.grants.hear(self.stream, {topic: time.time() + ttl_s}, {topic: name} if seen else {})
        await self.hub.attach(self.stream)
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        marks = "event: presence\ndata: "
        return [json.loads(block[len(marks) :]) for block in body_of(self.wall).blocks if block.startswith(marks)]

    @property
    def people(self) -> dict[str, str]:
        """By the events: users and their states."""
        people: dict[str, str] = {}
        for event in self.events:
            people |= {person["id"]: person["state"] for person in (*event["joined"], *event["changed"])}
            for person in event["left"]:
                people.pop(person["id"], None)
        return people

    async def state(self, state: str) -> None:
        await self.hub.grants.change(self.stream, Change("", {}, (), None, states={TOPIC: state}))


async def test_pages_see_who_comes_what_they_do_and_who_leaves(hub: Hub) -> None:
    ann = await Page(hub, "ann").open("Ann")
    await until(lambda: ann.people == {"ann": "viewing"})
    bob = await Page(hub, "bob").open()
    watcher = await Page(hub, "eve").open(seen=False)
    await until(lambda: ann.people == bob.people == {"ann": "viewing", "bob": "viewing"})
    await bob.state("editing")
    await until(lambda: ann.people == {"ann": "viewing", "bob": "editing"})
    assert ann.events[-1] == {
        "topic": "order:42", "count": 2, "joined": [], "left": [],
        "changed": [{"id": "bob", "name": None, "state": "editing"}],
    }  # fmt: skip
    await hub.grants.change(bob.stream, Change("", {}, [TOPIC], None))
    await until(lambda: ann.people == {"ann": "viewing"})
    assert ann.events[-1]["left"] == [{"id": "bob", "name": None, "state": "editing"}]
    assert watcher.events[-1] == ann.events[-1]
    assert not any(event["count"] > 2 for event in ann.events)


async def test_a_reconnect_is_no_event_and_a_lost_page_is_gone(hub: Hub) -> None:
    ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    seen = len(ann.events)
    hub.detach(bob.stream)
    again = await Page(hub, "bob").open()
    await until(lambda: again.people.keys() == {"ann", "bob"})
    # The lease of the first connection has ended when the second's renewal shows.
    await until(lambda: len(hub.people._broker._people.of(TOPIC)) == 2)  # type: ignore[attr-defined]
    assert len(ann.events) == seen
    hub.detach(again.stream)
    await until(lambda: ann.people.keys() == {"ann"})
    assert len(ann.events) == seen + 1


async def test_a_lost_page_is_gone_before_its_lease_would_have_ended(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presences, "LEASE_S", 3600)
    ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    hub.detach(bob.stream)
    await until(lambda: ann.people.keys() == {"ann"})


async def test_a_revoked_user_is_gone_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.grants.GRACE_S", 3600)
    ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    hub.end(bob.stream, "revoked")
    await until(lambda: ann.people.keys() == {"ann"})


async def test_who_comes_back_with_the_next_token_neither_leaves_nor_joins(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.grants.GRACE_S", 3600)
    ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    events, looks = len(ann.events), broker_of(hub).asked
    hub.end(bob.stream, "expired")
    before = looks[TOPIC]
    hub.people.look(TOPIC)
    await until(lambda: looks[TOPIC] > before)
    again = await Page(hub, "bob").open()
    await until(lambda: again.people.keys() == {"ann", "bob"})
    assert len(ann.events) == events


async def test_leases_are_renewed_and_those_of_a_killed_process_end(hub: Hub) -> None:
    ann = await Page(hub, "ann").open()
    broker = hub.people._broker
    await broker.lease(TOPIC, [Lease("elsewhere", Person("bob"), presences.LEASE_S)])
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    await until(lambda: ann.people.keys() == {"ann"}, 10)
    assert [person.person.user for person in await broker.people(TOPIC)] == ["ann"]


async def test_a_channel_whose_shard_is_away_stops_no_other(hub: Hub) -> None:
    elsewhere, broker = "topic:order:43", broker_of(hub)
    broker.away = {elsewhere}
    eve = await Page(hub, "eve").open(topic=elsewhere)
    ann = await Page(hub, "ann").open()
    await until(lambda: ann.people.keys() == {"ann"})
    assert not eve.events
    broker.away.clear()
    await until(lambda: eve.people.keys() == {"eve"})


async def test_a_change_is_announced_again_where_others_were_not_told(hub: Hub) -> None:
    broker = broker_of(hub)
    broker.untold = [TOPIC, TOPIC]
    await Page(hub, "ann").open()
    await until(lambda: broker.asked[f"lease {TOPIC} 0"] == 2)
    assert not broker.untold


async def test_a_lease_that_waited_for_the_broker_ends_when_it_was_to(hub: Hub) -> None:
    ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == {"ann", "bob"})
    broker = broker_of(hub)
    broker.away = {TOPIC}
    left_at = time.monotonic()
    hub.detach(bob.stream)
    await until(lambda: time.monotonic() > left_at + presences.GRACE_S)
    # As where a primary was lost with its leases: what is sent now is all that it has.
    broker._people = type(broker._people)()
    broker.away.clear()
    await until(lambda: [present.person.user for present in broker._people.of(TOPIC)])
    assert [present.person.user for present in broker._people.of(TOPIC)] == ["ann"]


async def test_the_first_look_of_a_process_says_everything_also_that_it_finds_no_person(hub: Hub) -> None:
    watcher = await Page(hub, "eve").open(seen=False)
    broker = broker_of(hub)
    # As another process would: it had announced the person before this one had a stream on the topic.
    broker._people.put(TOPIC, [Lease("elsewhere", Person("bob"), 60)])
    await broker.lease(TOPIC, [Lease("elsewhere", Person("bob"), 0)])
    await until(lambda: watcher.events)
    nothing: dict[str, Any] = {"joined": [], "left": [], "changed": []}
    assert watcher.events == [{"topic": "order:42", "count": 0, **nothing}]
    await until(lambda: not hub.people._views)
    assert len(watcher.events) == 1


async def test_people_of_whom_only_the_number_is_told_are_looked_at_less_often(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presences, "MAX_SHOWN", 2)
    pages = [await Page(hub, user).open() for user in ("ann", "bob", "eve")]
    await until(lambda: len(hub.people._views[TOPIC].users) == 3)
    assert hub.people._views[TOPIC].every_s == presences.LOOK_AT_NUMBERS_EVERY_S
    hub.grants.leave(pages[0].stream, [TOPIC])
    await until(lambda: len(hub.people._views[TOPIC].users) == 2)
    assert hub.people._views[TOPIC].every_s == presences.LOOK_EVERY_S


async def test_many_people_are_looked_at_less_often(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presences, "MANY", 2)
    broker = broker_of(hub)
    ann = await Page(hub, "ann").open()
    await broker.lease(TOPIC, [Lease(f"c{number}", Person(f"u{number}"), 60) for number in range(3)])
    await until(lambda: len(ann.people) == 4)
    before, view = broker.asked[TOPIC], hub.people._views[TOPIC]
    hub.people.look(TOPIC)
    assert view.look_at >= view.looked_at + presences.LOOK_AT_MANY_EVERY_S
    await until(lambda: broker.asked[TOPIC] == before + 1)


async def test_people_who_stay_cost_no_turns_of_the_loop(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the renewals of their leases, and the look that follows."""
    turns: list[int] = []
    send_leases = hub.people._send_leases

    async def counting() -> None:
        turns.append(1)
        await send_leases()

    pages = [await Page(hub, f"user-{number}").open() for number in range(3)]
    await until(lambda: all(len(page.people) == 3 for page in pages))
    monkeypatch.setattr(hub.people, "_send_leases", counting)
    asked = broker_of(hub).asked
    before = asked[f"lease {TOPIC} 3"]
    await until(lambda: asked[f"lease {TOPIC} 3"] >= before + 2)  # renewals, a second apart
    assert len(turns) < 20


async def test_changes_that_come_together_are_sent_together(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no change came for a while."""
    monkeypatch.setattr(presences, "TICK_S", 3.0)
    ann = await Page(hub, "ann").open()
    await asyncio.sleep(0.1)
    bob = await Page(hub, "bob").open()
    await until(lambda: ann.people.keys() == bob.people.keys() == {"ann", "bob"})
    assert len(ann.events[0]["joined"]) == 2
    assert f"lease {TOPIC} 1" not in broker_of(hub).asked


async def test_coming_and_going_is_joined_to_few_events(hub: Hub) -> None:
    ann = await Page(hub, "ann").open()
    await until(lambda: ann.people)
    pages = [await Page(hub, f"u{number}").open() for number in range(50)]
    await until(lambda: len(ann.people) == 51)
    assert len(ann.events) < 25
    for page in pages:
        await hub.grants.change(page.stream, Change("", {}, [TOPIC], None))
    await until(lambda: ann.people.keys() == {"ann"})


def test_above_a_hundred_only_the_number_is_told() -> None:
    many = {f"{number}": Person(f"{number}") for number in range(101)}
    few = dict(list(many.items())[:100])
    nothing: dict[str, Any] = {"joined": [], "left": [], "changed": []}
    assert change_between(few, many) == everyone(many) == {"count": 101, **nothing}
    assert change_between(many, {**many, "0": Person("0", None, "editing")}) is None
    told = change_between(many, few)
    assert told is not None
    assert (told["count"], len(told["joined"])) == (100, 100)


def test_a_state_counts_before_none_among_the_streams_of_a_user() -> None:
    editing, viewing = Person("ann", "Ann", "editing"), Person("ann", "Ann")
    for order in ([editing, viewing], [viewing, editing]):
        assert by_user(Present(person, 1) for person in order) == {"ann": editing}
