"""The times of presence, at their full length: a loop whose clock goes on by itself while every task waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from types import SimpleNamespace

import pytest

from notifier.broker.values import History
from notifier.hub import Hub
from notifier.people import Lease, Person
from notifier.presence import LEASE_S
from tests.faults.clients import until
from tests.hubs import running_hub
from tests.test_presence import TOPIC, Page, PartlyAway, broker_of

EXACT_S = 1e-6


class SkippingSelector(selectors.SelectSelector):
    """Waits for no time: what it was to wait is added to its clock."""

    now = 1_000_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "no task will ever go on"
        self.now += max(0.0, timeout)
        return super().select(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = SkippingSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


Run = Callable[[Callable[[Hub], Awaitable[None]]], None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a function with a hub in such a loop. Presence, grants and leases have the loop's clock."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        clock = runner.get_loop().time
        for module in (
            "notifier.presence",
            "notifier.grants",
            "notifier.broker.embedded.people",
            "tests.test_presence",
        ):
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock, monotonic=clock))

        async def on_hub(scene: Callable[[Hub], Awaitable[None]]) -> None:
            broker = PartlyAway(history=History(50, 50, 3600), max_replay=100)
            async with running_hub(broker) as hub:
                await broker.start(hub)
                await scene(hub)

        yield lambda scene: runner.run(on_hub(scene))


def now() -> float:
    return asyncio.get_running_loop().time()


async def come_and_go(hub: Hub, every_s: float) -> None:
    """Others, so that the topic is looked at all the time: as often as it may be."""
    for number in count():
        page = await Page(hub, f"u{number}").open()
        await asyncio.sleep(every_s)
        hub.grants.leave(page.stream, [TOPIC])


def test_who_comes_and_who_ends_cleanly_is_told_within_a_second(run: Run) -> None:
    async def scene(hub: Hub) -> None:
        ann = await Page(hub, "ann").open()
        others = asyncio.create_task(come_and_go(hub, 0.07))
        for tenth in range(12):  # wherever the last look was
            await asyncio.sleep(2 + tenth / 10)
            began = now()
            bob = await Page(hub, "bob").open()
            await until(lambda: "bob" in ann.people)
            joined, began = now() - began, now()
            if tenth % 2:
                hub.grants.leave(bob.stream, [TOPIC])
            else:
                hub.end(bob.stream, "revoked")
            await until(lambda: "bob" not in ann.people)
            assert max(joined, now() - began) < 1
        others.cancel()

    run(scene)


def test_presence_ends_with_its_grant_also_where_the_token_has_the_topic(run: Run) -> None:
    async def scene(hub: Hub) -> None:
        ann = await Page(hub, "ann").open()
        bob = await Page(hub, "bob", topics=("all", TOPIC)).open(ttl_s=5)
        await Page(hub, "eve", topics=("all", TOPIC)).open(ttl_s=-1)
        await until(lambda: ann.people.keys() == {"ann", "bob"})
        await until(lambda: ann.people.keys() == {"ann"})
        await until(lambda: bob.stream not in hub.people._members[TOPIC])
        assert TOPIC in bob.stream.channels
        assert not any(person["id"] == "eve" for event in ann.events for person in event["joined"])

    run(scene)


def test_a_topic_has_at_most_two_events_a_second(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(hub: Hub) -> None:
        ann = await Page(hub, "ann").open()
        await asyncio.sleep(2)
        times, write = list[float](), ann.wall.write

        def note(data: bytes | bytearray | memoryview) -> None:
            times.extend([now()] * bytes(data).count(b"event: presence\n"))
            write(data)

        monkeypatch.setattr(ann.wall, "write", note)
        others = asyncio.create_task(come_and_go(hub, 0.07))
        await asyncio.sleep(20)
        others.cancel()
        assert len(times) > 20
        assert min(later - early for early, later in zip(times, times[2:], strict=False)) > 1 - EXACT_S

    run(scene)


@pytest.mark.parametrize("reason", ["expired", "rotate", "drain"])
def test_who_is_back_within_five_seconds_neither_leaves_nor_joins(run: Run, reason: str) -> None:
    async def scene(hub: Hub) -> None:
        ann, bob = await Page(hub, "ann").open(), await Page(hub, "bob").open()
        await until(lambda: ann.people.keys() == {"ann", "bob"})
        events = len(ann.events)
        hub.end(bob.stream, reason)
        await asyncio.sleep(4.5)
        again = await Page(hub, "bob").open()
        await asyncio.sleep(40)
        assert len(ann.events) == events
        began = now()
        hub.end(again.stream, reason)
        await until(lambda: ann.people.keys() == {"ann"})
        assert 5 - EXACT_S < now() - began < 6

    run(scene)


def test_the_people_of_a_killed_process_are_gone_within_45_seconds(run: Run) -> None:
    async def scene(hub: Hub) -> None:
        ann = await Page(hub, "ann").open()
        await broker_of(hub).lease(TOPIC, [Lease("elsewhere", Person("bob"), LEASE_S)])
        await until(lambda: ann.people.keys() == {"ann", "bob"})
        await asyncio.sleep(29)
        assert "bob" in ann.people
        await until(lambda: "bob" not in ann.people, 45 - 29)

    run(scene)
