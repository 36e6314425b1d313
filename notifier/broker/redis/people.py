"""The broker on Redis: who is present on topics, as leases on the topic's home shard; when users were
last seen.

Must not know: streams, when leases are renewed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import Call, reading, script
from notifier.broker.redis.shards import Shards, write_for_users
from notifier.errors import BrokerUnavailable
from notifier.people import Lease, Present, person_of

KEY_TTL_S: Final = 120
"""Longer than any lease."""
PORTION: Final = 200
"""Leases of one call, about as many of an answer, and users."""
MAX_TIME_DIGITS: Final = 14
"""Of a Unix time in ms: until the year 5138."""


class RedisPeople:
    """The leases of all topics."""

    def __init__(self, shards: Shards, keys: Keys) -> None:
        self._shards = shards
        self._keys = keys
        self._untold: dict[str, set[int]] = {}
        """The shards on which a change is still to be announced, by channel."""

    async def put(self, channel: str, leases: Sequence[Lease]) -> bool:
        """See `Broker.lease`."""
        for first in range(0, len(leases), PORTION):
            args: list[str | bytes | int] = [KEY_TTL_S]
            for lease in leases[first : first + PORTION]:
                args += (lease.connection, int(lease.ttl_s * 1000), lease.person.text())
            try:
                is_changed = bool(await self._shards.run(self._call(channel, args)))
            except BrokerUnavailable:
                # The call may have been executed: repeated, it would find no change.
                self._untold[channel] = set(range(self._keys.shards))
                raise
            if is_changed:
                self._untold[channel] = set(range(self._keys.shards))
        return await self._announce(channel)

    async def _announce(self, channel: str) -> bool:
        """Announce a change on the shards where it is due. True if it stays due on some."""
        shards = list(self._untold.pop(channel, ()))
        answers = await asyncio.gather(*(self._tell(shard, channel) for shard in shards), return_exceptions=True)
        for shard, answer in zip(shards, answers, strict=True):
            if isinstance(answer, BrokerUnavailable):
                self._untold.setdefault(channel, set()).add(shard)
            elif isinstance(answer, BaseException):
                raise answer
        return channel in self._untold

    async def _tell(self, shard: int, channel: str) -> None:
        topic = self._keys.announcements(shard, channel)
        await self._shards.call(shard, self._keys.publish_command, topic, f"? 0 0 presence\n{channel}")

    async def of(self, channel: str) -> Sequence[Present]:
        """See `Broker.people`."""
        people: dict[bytes, Present] = {}
        began, place = time.monotonic(), b"0"
        while True:
            is_first = place == b"0"
            answer = await self._shards.run(self._call(channel, [KEY_TTL_S, place, PORTION]))
            with reading("people"):
                place = bytes(answer[0])
                for connection, text, left_ms in zip(answer[1::3], answer[2::3], answer[3::3], strict=True):
                    people[connection] = Present(person_of(text), int(left_ms) / 1000)
            # Another primary has another order: what it would continue with could lack people.
            if not is_first and not self._shards.is_live_since(self._keys.shard_of_name(channel), began):
                raise BrokerUnavailable("Redis was away while people were read")
            if place == b"0":
                return list(people.values())

    async def see(self, users: Mapping[str, int], *, ttl_s: int) -> Sequence[str]:
        """See `Broker.seen`."""

        def call(shard: int, part: Sequence[str]) -> Call:
            names = [self._keys.seen(shard, user) for user in part]
            return Call(script("seen"), shard, names, [ttl_s, *(users[user] for user in part)])

        return await write_for_users(self._shards, self._keys, users, call, portion=PORTION)

    async def last_seen(self, users: Sequence[str]) -> Mapping[str, int]:
        """See `Broker.last_seen`."""
        times: dict[str, int] = {}
        for first in range(0, len(users), PORTION):
            part = users[first : first + PORTION]
            shards = [self._keys.shard_of_name(user) for user in part]
            names = [self._keys.seen(shard, user) for shard, user in zip(shards, part, strict=True)]
            calls = (self._shards.call(shard, "GET", name) for shard, name in zip(shards, names, strict=True))
            answers = await asyncio.gather(*calls)
            times |= {user: int(at) for user, at in zip(part, answers, strict=True) if at is not None and is_time(at)}
        return times

    def _call(self, channel: str, args: Sequence[str | bytes | int]) -> Call:
        shard = self._keys.shard_of_name(channel)
        return Call(script("people"), shard, [self._keys.people(shard, channel)], args)


def is_time(text: bytes) -> bool:
    """False of what another program may have written instead of a Unix time in ms."""
    return text.isdigit() and len(text) <= MAX_TIME_DIGITS
