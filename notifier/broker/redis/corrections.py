"""The broker on Redis: messages that are retracted or corrected, in the histories of their channels.

Must not know: HTTP, streams, inboxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import SEARCHED_CHUNK, Call, reading, script
from notifier.broker.redis.shards import Shards
from notifier.broker.values import EPHEMERAL_PREFIX, FrameChange
from notifier.errors import BrokerUnavailable
from notifier.event import is_safe_frame, new_id
from notifier.exclusion import Exclusion

MAX_RETRIES: Final = 20
"""Attempts of one correction against concurrent ones of the same message."""


def retract_calls(keys: Keys, message_id: str, channels: Sequence[str]) -> Iterator[Call]:
    """The calls that remove a message from channels: one for each shard and each chunk of its channels."""
    for shard, here in _chunks(keys, channels):
        names = [name for channel in here for name in (keys.log(shard, channel), keys.meta(shard, channel))]
        announcements = [keys.announcements(shard, channel) for channel in here]
        yield Call(script("retract"), shard, names, [message_id, keys.publish_command, new_id(), *announcements])


def _chunks(keys: Keys, channels: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for shard in range(keys.shards):
        here = [channel for channel in channels if shard in keys.shards_of(channel)]
        for start in range(0, len(here), SEARCHED_CHUNK):
            yield shard, here[start : start + SEARCHED_CHUNK]


class RedisCorrections:
    """Retracts and corrects messages on all shards, one call after the other."""

    def __init__(self, shards: Shards, keys: Keys) -> None:
        self._shards = shards
        self._keys = keys

    async def retract(self, message_id: str, channels: Sequence[str]) -> None:
        """See `Broker.retract`. A failed call may have removed the message from some channels: it can be repeated."""
        for call in retract_calls(self._keys, message_id, channels):
            await self._shards.run(call)

    async def correct(self, message_id: str, channels: Sequence[str], change: FrameChange) -> Sequence[str]:
        """See `Broker.correct`. A failed call may have changed some channels: it can be repeated."""
        key, frames = EPHEMERAL_PREFIX + new_id(), list[str]()
        for shard, here in _chunks(self._keys, channels):
            frames += await self._correct_on(shard, message_id, here, change, key)
        return frames

    async def _correct_on(
        self, shard: int, message_id: str, channels: Sequence[str], change: FrameChange, key: str
    ) -> Sequence[str]:
        for _ in range(MAX_RETRIES):
            names = [self._keys.log(shard, channel) for channel in channels]
            answer = await self._shards.run(Call(script("correct"), shard, names, [message_id, ""]))
            with reading("correct"):
                stored = [
                    (channel, frame, excluded.decode("utf-8", "replace"))
                    for channel, frame, excluded in zip(channels, answer[::2], answer[1::2], strict=True)
                    if is_safe_frame(frame)
                ]
            corrected = [change(frame.decode()) for _, frame, _ in stored]
            names, args = list[str](), list[str | bytes | int]()
            for (channel, frame, excluded), new in zip(stored, corrected, strict=True):
                if new.encode() != frame:
                    names.append(self._keys.log(shard, channel))
                    lead = f"- 0 0 {key}"
                    if users := excluded.split("\n")[1:-1]:
                        lead += f" {Exclusion(frozenset(users)).text()}"
                    args += (frame, new, self._keys.announcements(shard, channel), lead)
            if not names:
                return corrected
            args = [message_id, self._keys.publish_command, *args]
            if await self._shards.run(Call(script("correct"), shard, names, args)):
                return corrected
        raise BrokerUnavailable("too many concurrent corrections of this message")
