"""The shards: for each a connection for calls and one for subscriptions, both to the same primary.

A shard that is away degrades its own streams and fails its own calls; the others go on.

Must not know: events, streams, what a call means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from notifier import event as events
from notifier.broker import Sink
from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.commands import Commands
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.layout import Layout
from notifier.broker.redis.places import Places
from notifier.broker.redis.primary import Primary
from notifier.broker.redis.scripts import Call
from notifier.broker.redis.subscriptions import Subscriptions
from notifier.errors import BrokerUnavailable
from notifier.histogram import Histogram, total
from notifier.portions import all_ended

log = logging.getLogger("notifier.broker")

T = TypeVar("T")


class Shards:
    """Runs calls, and keeps topics subscribed, each on its shard."""

    def __init__(self, places: Places, keys: Keys, *, topic_ttl_s: int, wait_replicas: int) -> None:
        """topic_ttl_s: see `History`. wait_replicas: see `Options`."""
        self._places = places
        self._keys = keys
        self._topic_ttl_s = topic_ttl_s
        self._sink: Sink | None = None
        self._process: Final = f"{os.getpid()}-{events.new_epoch()}"
        name = f"notifier-{self._process}"
        layout = Layout(places, keys, name=name)
        self.primaries = [
            Primary(
                places,
                keys,
                shard,
                layout,
                name=name,
                wait_replicas=wait_replicas,
                on_lost=partial(self._report, shard),
                on_back=partial(self._reconnect_subscriptions, shard),
            )
            for shard in range(keys.shards)
        ]
        self.commands = [Commands(primary, keys) for primary in self.primaries]
        self.subscriptions: list[Subscriptions] = []
        self._away: set[int] = set()
        """The shards that were reported to the sink as away."""
        self._back_at = [-math.inf] * keys.shards
        """When each shard was back after it was away, in seconds of `time.monotonic`."""
        self._is_weakness_known = False
        """True if the log has the warning about hidden identities."""

    async def start(self, sink: Sink) -> None:
        """Returns after the first attempt of every connection. Raises `ConfigurationError` if other processes use
        another layout."""
        self._sink = sink
        try:
            await all_ended(primary.start() for primary in self.primaries)
            self._warn_of_hidden_identities()
            self.subscriptions = [
                Subscriptions(
                    self._places,
                    self._keys,
                    shard,
                    sink,
                    primary,
                    self.commands[shard],
                    process=self._process,
                    name=f"notifier-{self._process}-sub",
                    topic_ttl_s=self._topic_ttl_s,
                    on_change=partial(self._report, shard),
                )
                for shard, primary in enumerate(self.primaries)
            ]
            await all_ended(subscriptions.start() for subscriptions in self.subscriptions)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Raises what has ended a loop of a connection, once all are closed."""
        connections: tuple[Subscriptions | Primary, ...] = (*self.subscriptions, *self.primaries)
        try:
            await all_ended(connection.close() for connection in connections)
        finally:
            await self._places.close()

    async def failed(self) -> None:
        """Never returns. Raises the unexpected error that ended a loop of a connection."""
        async with asyncio.TaskGroup() as group:
            for primary, subscriptions in zip(self.primaries, self.subscriptions, strict=True):
                group.create_task(_raise_failure_of(primary.keeper))
                group.create_task(_raise_failure_of(subscriptions.keeper))

    # Calls

    async def run(self, call: Call) -> Any:
        """See `Commands.run`."""
        return await self.commands[call.shard].run(call)

    def send(self, call: Call, read: Callable[[Any], T], result: asyncio.Future[T] | None = None) -> asyncio.Future[T]:
        """See `Commands.send`."""
        return self.commands[call.shard].send(call, read, result=result)

    def require(self, shards: Iterable[int]) -> None:
        """Raises `BrokerUnavailable` if one of these has no connection: nothing is sent to some of them only."""
        for shard in shards:
            if not self.primaries[shard].alive:
                raise BrokerUnavailable(f"shard {shard} of Redis is away")

    async def call(self, shard: int, *command: str | bytes | int) -> Any:
        """See `Commands.call`."""
        return await self.commands[shard].call(*command)

    def confirmation(self, shard: int) -> Callable[[], Awaitable[None]]:
        """See `Commands.confirmation`."""
        return self.commands[shard].confirmation()

    # Topics

    def topics_of(self, shard: int) -> Topics:
        return self.subscriptions[shard].topics

    async def subscribe(self, topics: Sequence[str]) -> None:
        """See `Broker.subscribe`."""
        if not self.subscriptions:
            raise BrokerUnavailable("Redis is away")
        for shard, names in self.by_shard(topics):
            await self.subscriptions[shard].add(names)

    def subscribe_and_send(self, topics: Sequence[str], call: Call, read: Callable[[Any], T]) -> asyncio.Future[T]:
        """See `Subscriptions.add_and_send`. All topics are of the call's shard."""
        if not self.subscriptions:
            raise BrokerUnavailable("Redis is away")
        return self.subscriptions[call.shard].add_and_send(topics, call, read)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        if self.subscriptions:
            for shard, names in self.by_shard(topics):
                self.subscriptions[shard].remove(names)

    def by_shard(self, topics: Sequence[str]) -> Sequence[tuple[int, Sequence[str]]]:
        """The topics of each shard that has some."""
        if self._keys.shards == 1:
            return [(0, topics)]
        by_shard: dict[int, list[str]] = {}
        for topic in topics:
            by_shard.setdefault(self._keys.shard_of_topic(topic), []).append(topic)
        return list(by_shard.items())

    # Which are away

    def is_live(self, shard: int) -> bool:
        """True if an event published to this shard now would be delivered."""
        return bool(self.subscriptions) and self.primaries[shard].alive and self.subscriptions[shard].live

    def is_live_since(self, shard: int, at: float) -> bool:
        """True if the shard is live and was not away after this time, in seconds of `time.monotonic`."""
        return self.is_live(shard) and self._back_at[shard] <= at

    @property
    def away(self) -> Sequence[int]:
        return [shard for shard in range(self._keys.shards) if not self.is_live(shard)]

    def _report(self, shard: int) -> None:
        """Report to the sink if a shard became unavailable, or available again."""
        is_away = not self.is_live(shard)
        if is_away == (shard in self._away) or self._sink is None:
            return
        of_several = f"shard {shard} of " if self._keys.shards > 1 else ""
        if is_away:
            self._away.add(shard)
            log.warning("%sRedis at %s is away", of_several, self._places)
        else:
            self._away.discard(shard)
            self._back_at[shard] = time.monotonic()
            log.info("%sRedis is back", of_several)
        if self._keys.shards == 1:
            self._sink.degraded(is_away)
        else:
            self._sink.degraded(is_away, self._keys.tag(shard))

    def _reconnect_subscriptions(self, shard: int) -> None:
        """The commands have a new connection, perhaps to another primary: the subscriptions must use the same one. Once
        they are live, every stream resyncs, also a stream that could not be opened meanwhile."""
        if self.subscriptions:
            self.subscriptions[shard].reconnect("the primary was lost")
        self._warn_of_hidden_identities()
        self._report(shard)

    def _warn_of_hidden_identities(self) -> None:
        """Once for all shards: they are servers of one provider."""
        weak = (each.identity.weakness for each in self.primaries if each.identity is not None)
        weakness = next(filter(None, weak), "")
        if weakness and not self._is_weakness_known:
            self._is_weakness_known = True
            log.warning("INFO of Redis at %s %s", self._places, weakness)

    @property
    def round_trips(self) -> Histogram:
        """Those of all shards, measured once a second."""
        return total(primary.round_trips for primary in self.primaries)

    @property
    def skipped(self) -> int:
        quarantined = sum(commands.quarantined for commands in self.commands)
        return quarantined + sum(subscriptions.topics.skipped for subscriptions in self.subscriptions)


async def _raise_failure_of(task: asyncio.Task[None] | None) -> None:
    """Raise the exception that ended a background loop; a cancelled loop raises nothing."""
    assert task is not None
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(task)


async def write_for_users(
    shards: Shards, keys: Keys, users: Iterable[str], call: Callable[[int, Sequence[str]], Call], *, portion: int
) -> Sequence[str]:
    """Run the calls that write something for each user, on the user's shard: one at a time there, for at most `portion`
    users each. Returns the users of whom nothing was stored, since their shard is away."""
    waiting: dict[int, list[str]] = {}
    for user in users:
        waiting.setdefault(keys.shard_of_name(user), []).append(user)

    async def write(shard: int, names: list[str]) -> None:
        while part := names[:portion]:
            await shards.run(call(shard, part))
            del names[:portion]

    # The users of a shard that is away stay in its list, and keep no other shard from its own.
    answers = await asyncio.gather(*(write(*each) for each in waiting.items()), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, BrokerUnavailable):
            raise answer
    return [user for names in waiting.values() for user in names]
