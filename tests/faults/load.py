"""Load on a service whose Redis moves: each channel has a publisher of its own, so that a shard that is away stops no
other, and each user has a listener.

What was answered with 200 and did not reach a listener is a silent loss, unless a later `reset` told the client to take
the present state.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

import httpx

from notifier.broker.redis.addresses import keys_of, parse_target
from notifier.broker.redis.keys import slot_of
from tests.faults.clients import Listener, StreamEvent, listening, until
from tests.faults.conftest import Scale
from tests.faults.test_nothing_lost import ROOMY
from tests.support import API_KEY, FULL, Service, bearer

PAUSE_S = 0.05 if FULL else 0.2
"""Between two messages of one channel, and before a repeat."""
DELIVERED_S = 30.0
"""After it, a message that has not arrived is lost."""
SHARDS = 12 if FULL else 6
WORKERS = 2 if FULL else 1


@dataclass(eq=False)
class Channel:
    """What was published to one channel."""

    name: str
    began_at: dict[str, float] = field(default_factory=dict)
    """When the first attempt of each acknowledged message began, by id, in monotonic seconds."""
    asked_at: dict[str, float] = field(default_factory=dict)
    """When the attempt began that was answered with 200."""
    answered_at: dict[str, float] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    """Messages whose first attempt got no answer, or a refusal."""
    refused: int = 0
    longest_refused_s: float = 0.0
    """The longest time from the first 503 of a message to its 200."""

    def longest_s(self, since: float = 0.0) -> float:
        """The longest time from the first attempt of a message to its 200, of those answered after this time."""
        answered = self.answered_at.items()
        return max((at - self.began_at[message] for message, at in answered if at > since), default=0.0)


class Load:
    """Created by `under_load`."""

    def __init__(self, service: Service, url: str, prefix: str, shards: int, seed: random.Random) -> None:
        self.service = service
        self.seed = seed
        self.keys = keys_of(parse_target(url), prefix, shards)
        number = self.keys.shards
        users: dict[int, str] = {}
        while len(users) < number:
            user = f"u{seed.randrange(1 << 30)}"
            users.setdefault(self.keys.shard_of_name(user), user)
        self.listeners = {shard: Listener(service.port, users[shard]) for shard in range(number)}
        """A listener on each shard."""
        self.users = {shard: Channel(f"user:{user}") for shard, user in users.items()}
        self.everyone = Channel("all")
        self.gone = 0
        """At the end: acknowledged messages that an inbox lacks, because a failover has removed them. One for all
        counts for each inbox."""
        self._running = asyncio.Event()
        self._running.set()
        self._stopping = False
        self._name = uuid.uuid4().hex

    @property
    def channels(self) -> list[Channel]:
        return [*self.users.values(), self.everyone]

    @property
    def published(self) -> int:
        return sum(len(channel.began_at) for channel in self.channels)

    @property
    def refused(self) -> int:
        return sum(channel.refused for channel in self.channels)

    def slot(self, shard: int) -> int:
        return slot_of(self.keys.seq(shard))

    # Publishing

    async def publish(self) -> None:
        async with httpx.AsyncClient(base_url=self.service.url, headers=bearer(API_KEY), timeout=15) as client:
            await asyncio.gather(*(self._publish_to(client, channel) for channel in self.channels))

    async def _publish_to(self, client: httpx.AsyncClient, channel: Channel) -> None:
        number = 0
        while not self._stopping:
            await self._running.wait()
            number += 1
            key = {"Idempotency-Key": f"{self._name}-{channel.name}-{number}"}
            began_at, refused_at = time.monotonic(), math.inf
            asked_at = began_at
            while (message_id := await self._attempt(client, channel, key)) is None:
                channel.refused += 1
                refused_at = min(refused_at, time.monotonic())
                await asyncio.sleep(PAUSE_S)
                asked_at = time.monotonic()
            channel.began_at[message_id], channel.asked_at[message_id] = began_at, asked_at
            channel.answered_at[message_id] = time.monotonic()
            if refused_at < math.inf:
                channel.repeated.add(message_id)
            channel.longest_refused_s = max(channel.longest_refused_s, time.monotonic() - refused_at)
            await asyncio.sleep(self.seed.uniform(0, 2 * PAUSE_S))

    async def _attempt(self, client: httpx.AsyncClient, channel: Channel, key: dict[str, str]) -> str | None:
        body = {"to": [channel.name], "subject": key["Idempotency-Key"]}
        with contextlib.suppress(httpx.TransportError):
            answer = await client.post("/v1/messages", json=body, headers=key)
            if answer.status_code == 200:
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
        return None

    def pause(self) -> None:
        """Publish nothing more for now."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    async def goes_on(self, channels: Collection[Channel] | None = None, count: int = 3) -> None:
        """Wait until each of these channels, or of all, has so many messages more."""
        before = {channel: len(channel.began_at) for channel in channels or self.channels}
        await until(
            lambda: all(len(channel.began_at) >= number + count for channel, number in before.items()),
            60,
            "further messages on every channel",
        )

    async def refuses(self, channel: Channel) -> None:
        """Wait until a publish to this channel is refused."""
        before = channel.refused
        await until(lambda: channel.refused > before, 60, f"a refusal of {channel.name}")

    async def reaches(self, published: int) -> None:
        """Wait until so many messages are acknowledged in all."""
        await until(lambda: self.published >= published, 120, f"{published} messages")

    def stops(self) -> None:
        """End after the messages that are being published."""
        self._stopping = True
        self._running.set()

    # What must be so at the end

    def due(self, listener: Listener) -> dict[str, float]:
        return self._own(listener).began_at | self.everyone.began_at

    def _own(self, listener: Listener) -> Channel:
        return next(channel for channel in self.users.values() if channel.name == f"user:{listener.user}")

    def lost(self, listener: Listener) -> list[str]:
        """Acknowledged messages that did not arrive, and that no reset excuses."""
        received = {message.data["id"] for message in listener.messages}
        last_reset = max((reset.at for reset in listener.resets), default=0.0)
        return [each for each, began_at in self.due(listener).items() if each not in received and began_at > last_reset]

    async def is_delivered(self) -> None:
        """Wait until nothing is lost silently so far, then publish again until a random moment. Before each fault: its
        reset would excuse what was lost before it."""
        self.pause()
        await self._nothing_missing()
        self.go_on()
        await asyncio.sleep(self.seed.uniform(0, 0.5))

    async def _nothing_missing(self) -> None:
        listeners = self.listeners.values()
        with contextlib.suppress(AssertionError):
            await until(lambda: not any(self.lost(listener) for listener in listeners), DELIVERED_S)
        for listener in listeners:
            reset_at = max((reset.at for reset in listener.resets), default=0.0)
            late = [round(self.due(listener)[each] - reset_at, 2) for each in self.lost(listener)]
            assert late == [], f"{listener.user} lost messages that began so many seconds after its last reset: {late}"

    async def assert_nothing_lost_silently(self) -> None:
        """Every listener is live and has every acknowledged message once and in order, but for those before a reset."""
        await self._nothing_missing()
        listeners = self.listeners.values()
        await until(lambda: all(is_well(listener) for listener in listeners), 30, "no client degraded")
        for listener in listeners:
            twice = [copies for copies in self._copies(listener) if not self._was_taken_back(listener, *copies)]
            assert twice == [], f"{listener.user} received messages twice, after {listener.resets}"
            for epoch in {message.id.rpartition("-")[0] for message in listener.messages}:
                seqs = [message.seq for message in listener.messages if message.id.startswith(f"{epoch}-")]
                assert seqs == sorted(seqs), f"{listener.user} received messages out of order"

    def _copies(self, listener: Listener) -> list[list[StreamEvent]]:
        """The messages that came more than once."""
        by_id: dict[str, list[StreamEvent]] = {}
        for message in listener.messages:
            by_id.setdefault(message.data["id"], []).append(message)
        return [copies for copies in by_id.values() if len(copies) > 1]

    def _was_taken_back(self, listener: Listener, first: StreamEvent, second: StreamEvent, *more: StreamEvent) -> bool:
        """True of a message that the older primary announced and took along, unanswered: its repeat is new at the next
        one, under the same id, and comes after the reset."""
        return (
            not more
            and any(first.data["id"] in channel.repeated for channel in self.channels)
            and first.id.rpartition("-")[0] != second.id.rpartition("-")[0]
            and any(first.at <= reset.at <= second.at for reset in listener.resets)
        )

    def count_gone(self) -> None:
        """Also raise AssertionError if one of them was asked for after the last reset: no client asks for it again. An
        earlier attempt may have stored it, so it need not have come on the stream."""
        for listener in self.listeners.values():
            gone = self.due(listener).keys() - self._inbox(listener)
            asked_at = self._own(listener).asked_at | self.everyone.asked_at
            reset_at = max((reset.at for reset in listener.resets), default=0.0)
            late = {each: round(asked_at[each] - reset_at, 2) for each in gone if asked_at[each] > reset_at}
            assert late == {}, f"{listener.user}: not in the inbox, and asked for so many seconds after its last reset"
            self.gone += len(gone)

    def _inbox(self, listener: Listener) -> set[str]:
        ids: list[str] = []
        with self.service.user(listener.user) as client:
            while True:
                older = {"before": ids[-1]} if ids else {}
                answer = client.get("/v1/inbox", params={"limit": "100", **older})
                if answer.status_code == 503:  # the shard may be on its way still
                    time.sleep(PAUSE_S)
                    continue
                page = answer.raise_for_status().json()
                ids += [message["id"] for message in page["messages"]]
                if not page["more"]:
                    return set(ids)

    def assert_unaffected(self, shards: Collection[int]) -> None:
        """These shards' streams had no reset and were never degraded, and no publish to their users was refused."""
        for shard in shards:
            listener = self.listeners[shard]
            assert (listener.connects, listener.resets, listener.of("degraded")) == (1, [], []), f"shard {shard}"
            assert self.users[shard].refused == 0, f"shard {shard}"

    def troubles(self, shards: Collection[int]) -> dict[int, tuple[int, int, int, int]]:
        """How often these shards' streams connected, had a reset and were degraded, and publishes to their users were
        refused: the same before and after a fault of other shards."""
        listeners = {shard: self.listeners[shard] for shard in shards}
        return {
            shard: (each.connects, len(each.resets), len(each.of("degraded")), self.users[shard].refused)
            for shard, each in listeners.items()
        }

    @property
    def resets(self) -> int:
        return sum(len(listener.resets) for listener in self.listeners.values())

    @property
    def longest_degraded_s(self) -> float:
        return max(listener.longest_degraded_s for listener in self.listeners.values())

    @property
    def longest_publish_s(self) -> float:
        return max(channel.longest_s() for channel in self.channels)

    @property
    def longest_refused_s(self) -> float:
        return max(channel.longest_refused_s for channel in self.channels)


def is_well(listener: Listener) -> bool:
    degraded = listener.of("degraded")
    return listener.live and not (degraded and degraded[-1].data["degraded"])


def others(load: Load, shards: Collection[int]) -> list[int]:
    """The other shards."""
    return [shard for shard in load.listeners if shard not in shards]


async def round_of(load: Load, scale: Scale) -> None:
    """Publish the messages of one round, and wait until nothing of it is missing. Five rounds have more than 4,000."""
    await load.reaches(load.published + scale.whole(40, 850))
    await load.is_delivered()


def seen(load: Load, **more: object) -> dict[str, object]:
    """The figures of a case that has ended."""
    return {
        "published": load.published,
        "refused": load.refused,
        "resets": load.resets,
        "silent_losses": 0,
        "twice": 0,
        "longest_degraded_s": round(load.longest_degraded_s, 2),
        "outage_s": round(load.longest_publish_s, 2),
        "longest_refused_s": round(load.longest_refused_s, 2),
        **more,
    }


@dataclass(frozen=True)
class Site:
    """A service on Redis servers."""

    service: Service
    url: str
    prefix: str
    shards: int

    def stop(self) -> None:
        self.service.stop()


def site_on(url: str, *, shards: int = SHARDS, workers: int = WORKERS, wait_replicas: int = 0) -> Site:
    """Start a service on this address."""
    prefix = f"n{random.randrange(1 << 30)}:"
    env = {**ROOMY, "NOTIFIER_BROKER_URL": url, "NOTIFIER_PREFIX": prefix, "NOTIFIER_STREAM_LIFE_S": "3600"}
    env["NOTIFIER_REDIS_WAIT_REPLICAS"] = str(wait_replicas)
    if parse_target(url).mode == "several":
        shards = 1
    else:
        env["NOTIFIER_SHARDS"] = str(shards)
    return Site(Service(workers=workers, env=env), url, prefix, shards)


@contextlib.asynccontextmanager
async def under_load(url: str, seed: random.Random, *, shards: int = SHARDS) -> AsyncIterator[Load]:
    """A service on this address under load: see `loaded`."""
    # In a thread: a proxy of the test may run on this loop.
    site = await asyncio.to_thread(site_on, url, shards=shards)
    try:
        async with loaded(site, seed) as load:
            yield load
    finally:
        await asyncio.to_thread(site.stop)


@contextlib.asynccontextmanager
async def loaded(site: Site, seed: random.Random) -> AsyncIterator[Load]:
    """A listener on each shard, and a publisher for each of them and for all. At the end of the block nothing may be
    lost silently."""
    load = Load(site.service, site.url, site.prefix, site.shards, seed)
    async with listening(*load.listeners.values()):
        publishing = asyncio.create_task(load.publish())
        try:
            await load.goes_on()
            yield load
            load.stops()
            await asyncio.wait_for(publishing, 60)
            await load.assert_nothing_lost_silently()
            await asyncio.to_thread(load.count_gone)
        finally:
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing
