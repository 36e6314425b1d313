"""The broker on Redis: any number of processes, one order of events for each shard.

Each shard has two connections, one for commands and one for subscriptions (`shards`). Pub/sub is a wake-up and the log
is the truth: when an announcement may have been missed (a lost connection, a hole in a topic's order), the sink resyncs
and its streams read the log from their cursors.

Must not know: HTTP, streams.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self

from notifier import event as events
from notifier.broker import Broker, Sink
from notifier.broker.redis.addresses import keys_of, parse_target
from notifier.broker.redis.afterwards import RedisAfterwards
from notifier.broker.redis.corrections import RedisCorrections
from notifier.broker.redis.inbox import RedisInbox
from notifier.broker.redis.keys import FORGOTTEN_WORD, Keys
from notifier.broker.redis.openings import open_call, opening_of
from notifier.broker.redis.outputs import RedisOutputs
from notifier.broker.redis.people import RedisPeople
from notifier.broker.redis.places import Places, open_places
from notifier.broker.redis.publishes import RedisPublishes
from notifier.broker.redis.scripts import Call, reading, script
from notifier.broker.redis.shards import Shards
from notifier.broker.redis.tasks import RedisTasks
from notifier.broker.values import (
    FrameChange,
    History,
    Idempotency,
    MarkAction,
    Marked,
    Opening,
    Options,
    Page,
    Receipt,
    Submitted,
    TaskChange,
)
from notifier.errors import no_task
from notifier.event import Cursor, Event
from notifier.histogram import Histogram
from notifier.output import KEPT_BYTES, Appended, Output
from notifier.people import Lease, Present
from notifier.rules import is_topic
from notifier.sampling import Sampling
from notifier.task import Task

log = logging.getLogger("notifier.broker")

REVOKED_TTL_S: Final = 7 * 86_400
"""How long the token of a `disconnect` is stored: no stream lives longer."""

FIRST_PORTION_BYTES: Final = 4096
"""Events that come with a subscription, at most: Redis bounds what waits for a connection that subscribes. The portions
after it come over the connection of calls."""


class RedisBroker(Broker):
    """Stores everything in Redis: on one primary, or spread over several."""

    def __init__(
        self,
        places: Places,
        keys: Keys,
        *,
        history: History,
        max_replay: int,
        output_bytes: int = KEPT_BYTES,
        wait_replicas: int = 0,
    ) -> None:
        self._keys = keys
        self._history = history
        self._max_replay = max_replay
        self._shards = Shards(places, keys, topic_ttl_s=history.topic_ttl_s, wait_replicas=wait_replicas)
        self._publishes = RedisPublishes(self._shards, keys, history)
        self._tasks = RedisTasks(self._shards, keys)
        self._outputs = RedisOutputs(self._shards, keys, max_bytes=output_bytes)
        self._corrections = RedisCorrections(self._shards, keys)
        self._inbox = RedisInbox(self._shards, keys, history_ttl_s=history.ttl_s)
        self._people = RedisPeople(self._shards, keys)
        self.afterwards = RedisAfterwards(self._shards, keys)
        self._skipped = 0

    @classmethod
    def from_url(cls, url: str, options: Options) -> Self:
        target = parse_target(url)
        keys = keys_of(target, options.prefix, options.shards)
        return cls(
            open_places(target, keys),
            keys,
            history=options.history,
            max_replay=options.max_replay,
            output_bytes=options.output_bytes,
            wait_replicas=options.redis_wait_replicas,
        )

    # Lifecycle

    async def start(self, sink: Sink) -> None:
        """Connect, or keep trying: a service that starts before its Redis is degraded, not dead. Raises
        `ConfigurationError` if the processes that use this Redis have other shards."""
        await self._shards.start(sink)

    async def close(self) -> None:
        await self._shards.close()

    async def failed(self) -> None:
        await self._shards.failed()

    @property
    def ready(self) -> bool:
        return len(self._shards.away) < self._keys.shards

    @property
    def shards_away(self) -> Sequence[int]:
        return self._shards.away

    @property
    def shards(self) -> int:
        return self._keys.shards

    def shard_of(self, user: str) -> int:
        return self._keys.shard_of_name(user)

    @property
    def round_trips(self) -> Histogram:
        return self._shards.round_trips

    # Topics

    def topics(self, user: str, channels: Sequence[str]) -> tuple[str, ...]:
        return self._keys.topics(self._keys.shard_of_name(user), channels)

    def topics_of(self, channel: str) -> Sequence[str]:
        return [self._keys.announcements(shard, channel) for shard in self._keys.shards_of(channel)]

    def order_of(self, topic: str) -> str:
        return self._keys.tag(self._keys.shard_of_topic(topic))

    async def lease(self, channel: str, leases: Sequence[Lease]) -> bool:
        return await self._people.put(channel, leases)

    async def people(self, channel: str) -> Sequence[Present]:
        return await self._people.of(channel)

    async def subscribe(self, topics: Sequence[str]) -> None:
        await self._shards.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._shards.unsubscribe(topics)

    # Events

    @property
    def sampling(self) -> Sampling:
        return self._publishes.sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        self._publishes.sampling = sampling

    def submit(self, event: Event, idempotency: Idempotency | None = None) -> Awaitable[Receipt]:
        return self._publishes.submit(event, idempotency)

    def submit_all(self, events: Sequence[tuple[Event, Idempotency | None]]) -> list[Submitted]:
        claimed = self._publishes.submit_claimed(events)
        return super().submit_all(events) if claimed is None else claimed

    async def open(
        self,
        user: str,
        channels: Sequence[str],
        cursor: Cursor | str | None,
        *,
        subscribe: bool = False,
        portion_bytes: int = 0,
        continued: bool = False,
        joined: Mapping[str, int] | None = None,
    ) -> Opening:
        topics = self.topics(user, channels)
        over_subscriptions = subscribe and not continued
        if over_subscriptions and portion_bytes:
            portion_bytes = min(portion_bytes, FIRST_PORTION_BYTES)
        call = open_call(
            self._keys,
            user,
            channels,
            cursor,
            history=self._history,
            max_replay=self._max_replay,
            portion_bytes=portion_bytes,
            continued=continued,
            joined=joined,
        )
        if over_subscriptions:
            read = partial(self._read_subscribed, topics, call.shard)
            opening, task_ids = await self._shards.subscribe_and_send(topics, call, read)
        else:
            if subscribe:
                await self.subscribe(topics)
            _, opening, task_ids = await self._shards.send(call, partial(opening_of, topics, self._skip_entry))
        if opening.unread < 0:
            # A mark made meanwhile is announced, with the number after it, to streams that are subscribed already.
            listed = [channel for channel in channels if not is_topic(channel)]
            opening = replace(opening, unread=await self._inbox.unread_at(opening.cursor, user, listed))
        if any(task_ids):
            # A state stored meanwhile is announced as well.
            opening = replace(opening, tasks=await self._tasks.snapshot(user, channels, task_ids))
        return opening

    def _read_subscribed(self, topics: Sequence[str], shard: int, answer: Any) -> tuple[Opening, list[list[bytes]]]:
        epoch, opening, task_ids = opening_of(topics, self._skip_entry, answer)
        self._shards.topics_of(shard).note_lasts(epoch, opening.lasts)
        return opening, task_ids

    def _skip_entry(self, seq: int) -> None:
        self._skipped += 1
        log.error("skipped a stored entry that is not in notifier's form: seq %d", seq)

    async def retract(self, message_id: str, channels: Sequence[str]) -> None:
        await self._corrections.retract(message_id, channels)

    async def correct(self, message_id: str, channels: Sequence[str], change: FrameChange) -> Sequence[str]:
        return await self._corrections.correct(message_id, channels, change)

    # The inbox

    async def inbox(
        self, user: str, channels: Sequence[str], *, limit: int, before: str | None, unread_only: bool
    ) -> Page:
        return await self._inbox.page(user, channels, limit=limit, before=before, unread_only=unread_only)

    async def unread(self, user: str, channels: Sequence[str]) -> int:
        return await self._inbox.unread(user, channels)

    async def mark(self, user: str, channels: Sequence[str], action: MarkAction, ids: Sequence[str]) -> Marked:
        return await self._inbox.mark(user, channels, action, ids)

    # Tasks

    async def create_task(self, task: Task, idempotency: Idempotency | None = None) -> Task:
        return await self._tasks.create(task, idempotency)

    async def change_task(self, task_id: str, change: TaskChange, idempotency: Idempotency | None = None) -> Task:
        return await self._tasks.change(task_id, change, idempotency)

    async def task(self, task_id: str) -> Task | None:
        return await self._tasks.find(task_id)

    async def append_output(self, task_id: str, text: str, idempotency: Idempotency | None = None) -> Appended:
        task = await self._tasks.find(task_id)
        if task is None:
            raise no_task(task_id)
        return await self._outputs.append(task, text, idempotency)

    async def output(self, task_id: str, after: int) -> Output:
        return await self._outputs.after(task_id, after)

    async def stalled_tasks(self, before_ms: int) -> Sequence[str]:
        return await self._tasks.stalled(before_ms)

    async def due_questions(self, before_ms: int) -> Sequence[str]:
        return await self._tasks.due_questions(before_ms)

    async def tasks(self, user: str, channels: Sequence[str]) -> Sequence[Task]:
        return await self._tasks.of_user(user, channels)

    async def dismiss_task(self, user: str, task_id: str) -> None:
        shard = self._keys.shard_of_name(user)
        hidden = self._keys.hidden(shard, user)
        confirmed = self._shards.confirmation(shard)
        counter: bytes | None = await self._shards.call(shard, "GET", self._keys.seq(shard))
        # The score only orders the marks by age; a foreign counter gives the lowest.
        score = int(counter) if counter and counter.isdigit() else 0
        await self._shards.call(shard, "ZADD", hidden, score, f"t:{task_id}")
        await self._shards.call(shard, "EXPIRE", hidden, self._history.ttl_s * 10)
        await confirmed()

    # Users

    async def watched(self, topics: Sequence[str]) -> Collection[str]:
        counting = "SHARDNUMSUB" if self._keys.is_sharded else "NUMSUB"
        calls = (self._shards.call(shard, "PUBSUB", counting, *names) for shard, names in self._shards.by_shard(topics))
        watched = set[str]()
        for answer in await asyncio.gather(*calls):
            with reading("PUBSUB"):
                watched.update(name.decode() for name, count in zip(answer[::2], answer[1::2], strict=True) if count)
        return watched

    async def control(self, topic: str, text: str) -> int:
        shard = self._keys.shard_of_topic(topic)
        receivers = await self._shards.call(shard, self._keys.publish_command, topic, f"? 0 0 -\n{text}")
        with reading("PUBLISH"):
            return int(receivers)

    async def seen(self, users: Mapping[str, int]) -> Sequence[str]:
        return await self._people.see(users, ttl_s=self._history.ttl_s)

    async def last_seen(self, users: Sequence[str]) -> Mapping[str, int]:
        return await self._people.last_seen(users)

    async def disconnect(self, user: str, *, forgotten: bool = False) -> None:
        topic = self.topics(user, [f"user:{user}"])[0]
        shard = self._keys.shard_of_name(user)
        revoked = self._keys.revoked(shard, user)
        # For processes whose subscriptions are down at this moment: they read the token when they reopen their streams.
        # By Redis' clock, so that processes with other clocks agree on what came before it.
        confirmed = self._shards.confirmation(shard)
        answer = await self._shards.call(shard, "TIME")
        with reading("TIME"):
            now_ms = int(answer[0]) * 1000 + int(answer[1]) // 1000
        why = FORGOTTEN_WORD if forgotten else ""
        await self._shards.call(shard, "SET", revoked, f"{events.new_id()}{why}@{now_ms}", "EX", REVOKED_TTL_S)
        await self._shards.call(shard, self._keys.publish_command, topic, f"! 0 0 revoked\n{why}")
        await confirmed()

    async def forget(self, user: str) -> None:
        channel = f"user:{user}"
        confirmed = [self._shards.confirmation(place) for place in range(self._keys.shards)]
        await self._tasks.forget(user, channel)
        shard = self._keys.shard_of_name(user)
        names = [self._keys.seq(shard), self._keys.meta(shard, channel), self._keys.log(shard, channel)]
        names += (self._keys.events(shard, channel), self._keys.read(shard, user), self._keys.hidden(shard, user))
        names += (self._keys.seen(shard, user), self._keys.connections(shard, user))
        await self._shards.run(Call(script("forget"), shard, names, [self._history.ttl_s * 10]))
        # Of every shard: an earlier call may have deleted tasks anywhere.
        await asyncio.gather(*(confirm() for confirm in confirmed))

    @property
    def skipped(self) -> int:
        return self._skipped + self._shards.skipped
