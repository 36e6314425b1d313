"""The broker on Redis: messages that are retracted or corrected, in the histories of their channels.

Must not know: HTTP, streams, inboxes.
"""

from __future__ import annotations

from collections.abc import Sequence

from notifier.broker.redis.correction_calls import MAX_RETRIES, Correction, corrections, retract_calls
from notifier.broker.redis.keys import Keys
from notifier.broker.redis.shards import Shards
from notifier.broker.values import FrameChange
from notifier.errors import BrokerUnavailable


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
        frames = list[str]()
        for correction in corrections(self._keys, message_id, channels):
            frames += await self._corrected(correction, change)
        return frames

    async def _corrected(self, correction: Correction, change: FrameChange) -> Sequence[str]:
        for _ in range(MAX_RETRIES):
            frames, write = correction.write(await self._shards.run(correction.read), change)
            if write is None or await self._shards.run(write):
                return frames
        raise BrokerUnavailable("too many concurrent corrections of this message")
