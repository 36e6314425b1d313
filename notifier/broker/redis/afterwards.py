"""What the broker on Redis says afterwards: records of connections as a stream for each user, places of messages.

Must not know: streams, what a record says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from notifier.broker.afterwards import MAX_RECORDS, Afterwards, Join, RecordTexts, Stored, Trail
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import SEARCHED_CHUNK, Call, reading, script
from notifier.broker.redis.shards import Shards, write_for_users
from notifier.errors import BrokerUnavailable
from notifier.event import new_epoch

PORTION: Final = 100
"""Users of one call."""
MAX_ENTRIES: Final = 2 * MAX_RECORDS
"""Entries of a user: a record has two, one for each of its writes."""
MANY_ENTRIES: Final = MAX_RECORDS + MAX_RECORDS // 2
"""With this many, records are joined. Those of at least ten more polls come before the next time."""


class RedisAfterwards(Afterwards):
    """On the shard of each user."""

    def __init__(self, shards: Shards, keys: Keys) -> None:
        self._shards = shards
        self._keys = keys

    async def note(
        self, users: Mapping[str, RecordTexts], *, ttl_s: int, join: Join = dict, joinable: Collection[str] = ()
    ) -> Sequence[str]:
        def call(shard: int, part: Sequence[str]) -> Call:
            names = [self._keys.connections(shard, user) for user in part]
            args: list[str | bytes | int] = [ttl_s, MAX_ENTRIES]
            for user in part:
                args.append(len(users[user]))
                for record_id, text in users[user].items():
                    args += (record_id, text)
            return Call(script("connections"), shard, names, args)

        # Not after the write: until its caller knows of it, it would be read twice, by its own id and in what it was
        # joined to.
        await asyncio.gather(*(self._shorten(user, join) for user in joinable))
        return await write_for_users(self._shards, self._keys, users, call, portion=PORTION)

    async def _shorten(self, user: str, join: Join) -> None:
        """Join the records of a user that has many. Nothing happens where another process does so at the same time, or
        the user is forgotten."""
        shard = self._keys.shard_of_name(user)
        key = self._keys.connections(shard, user)
        try:
            if await self._shards.call(shard, "XLEN", key) < MANY_ENTRIES:
                return
            entries = await self._entries(shard, user)
            known = {record_id: text for _, record_id, text in entries}
            kept = dict(sorted(join(known).items())[-MAX_RECORDS:])
            surplus = [entry for entry, record_id, text in entries if kept.get(record_id) != text]
            args: list[str | bytes | int] = [len(surplus), *surplus]
            for record_id, text in kept.items():
                if known.get(record_id) != text:
                    args += (record_id, text)
            if surplus:
                await self._shards.run(Call(script("shorten"), shard, [key], args))
        except BrokerUnavailable:
            return  # the next write is the next occasion

    async def _entries(self, shard: int, user: str) -> Sequence[tuple[bytes, str, str]]:
        """The entry, the record's id and its text, in the order in which they were written."""
        answer = await self._shards.call(shard, "XRANGE", self._keys.connections(shard, user), "-", "+")
        entries = []
        with reading("XRANGE"):
            for entry, values in answer:
                fields = dict(zip(values[::2], values[1::2], strict=True))
                if b"i" in fields and b"r" in fields:
                    record_id, text = (fields[name].decode("utf-8", "replace") for name in (b"i", b"r"))
                    entries.append((entry, record_id, text))
        return entries

    async def records(self, user: str) -> Sequence[str]:
        entries = await self._entries(self._keys.shard_of_name(user), user)
        known = {record_id: text for _, record_id, text in entries}
        return [known[record_id] for record_id in sorted(known)]

    async def trail(self, user: str, message_id: str, channels: Sequence[str]) -> Trail:
        shard = self._keys.shard_of_name(user)
        channels = [channel for channel in channels if shard in self._keys.shards_of(channel)]
        marks = [self._keys.epoch(shard), self._keys.read(shard, user), self._keys.hidden(shard, user)]
        places, is_read, epoch = list[Stored](), False, ""
        for start in range(0, max(1, len(channels)), SEARCHED_CHUNK):
            chunk = channels[start : start + SEARCHED_CHUNK]
            names = [*marks]
            for channel in chunk:
                names += (self._keys.log(shard, channel), self._keys.meta(shard, channel))
            answer = await self._shards.run(Call(script("trail"), shard, names, [new_epoch(), message_id]))
            with reading("trail"):
                known_epoch, is_marked, up_to, *flat = answer
                epoch = known_epoch.decode()
                is_read = is_read or bool(is_marked)
                for number, *values in zip(*[iter(flat)] * 8, strict=True):
                    stored = _stored(chunk[int(number)], user, values)
                    places.append(stored)
                    is_read = is_read or stored.seq <= int(up_to)
        return Trail(epoch, places, is_read)


def _stored(channel: str, user: str, values: Sequence[Any]) -> Stored:
    """A place in the answer of the script `trail`."""
    seq, accepted, expires_at_ms, excluded, corrected, removed, removed_ms = values
    accepted_ms, _, publisher = accepted.decode("utf-8", "replace").partition(" ")
    return Stored(
        channel=channel,
        seq=int(seq),
        accepted_ms=int(accepted_ms) if accepted_ms.isdigit() else 0,
        publisher=publisher,
        expires_at_ms=int(expires_at_ms),
        is_excluded=f"\n{user}\n" in excluded.decode("utf-8", "replace"),
        corrected_ms=[int(at) for at in corrected.split()],
        removed=removed.decode("utf-8", "replace"),
        removed_ms=int(removed_ms),
    )
