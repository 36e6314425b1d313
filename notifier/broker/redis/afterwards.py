"""What the broker on Redis says afterwards: records of connections as a stream for each user, places of messages.

Must not know: streams, what a record says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from notifier.broker.afterwards import MAX_RECORDS, Afterwards, RecordTexts, Stored, Trail
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import SEARCHED_CHUNK, Call, reading, script
from notifier.broker.redis.shards import Shards, write_for_users
from notifier.event import new_epoch

PORTION: Final = 100
"""Users of one call."""


class RedisAfterwards(Afterwards):
    """On the shard of each user."""

    def __init__(self, shards: Shards, keys: Keys) -> None:
        self._shards = shards
        self._keys = keys

    async def note(self, users: Mapping[str, RecordTexts], *, ttl_s: int) -> Sequence[str]:
        def call(shard: int, part: Sequence[str]) -> Call:
            names = [self._keys.connections(shard, user) for user in part]
            args: list[str | bytes | int] = [ttl_s, 2 * MAX_RECORDS]
            for user in part:
                args.append(len(users[user]))
                for record_id, text in users[user].items():
                    args += (record_id, text)
            return Call(script("connections"), shard, names, args)

        return await write_for_users(self._shards, self._keys, users, call, portion=PORTION)

    async def records(self, user: str) -> Sequence[str]:
        shard = self._keys.shard_of_name(user)
        answer = await self._shards.call(shard, "XRANGE", self._keys.connections(shard, user), "-", "+")
        with reading("XRANGE"):
            known: dict[bytes, bytes] = {}
            for _, fields in answer:
                entry = dict(zip(fields[::2], fields[1::2], strict=True))
                if b"i" in entry and b"r" in entry:
                    known[entry[b"i"]] = entry[b"r"]
            return [known[record_id].decode("utf-8", "replace") for record_id in sorted(known)[-MAX_RECORDS:]]

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
