"""Messages that are retracted or corrected on Redis, as script calls and their answers: for the broker and for the
Django bridge.

Must not know: connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import SEARCHED_CHUNK, Call, reading, script
from notifier.broker.values import EPHEMERAL_PREFIX, FrameChange
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


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction of a message in a chunk of its channels, which are on one shard.

    `read` is run, its answer goes to `write`; a call that this returns is run, and its answer 0 means: another
    correction won, begin again.
    """

    keys: Keys
    shard: int
    channels: Sequence[str]
    message_id: str
    announced_as: str
    """The repeat key of the announcements, the same for all chunks."""

    @property
    def read(self) -> Call:
        names = [self.keys.log(self.shard, channel) for channel in self.channels]
        return Call(script("correct"), self.shard, names, [self.message_id, ""])

    def write(self, answer: Any, change: FrameChange) -> tuple[Sequence[str], Call | None]:
        """The corrected frames, and the call that stores those that differ. Raises what `change` raises."""
        with reading("correct"):
            stored = [
                (channel, frame, excluded.decode("utf-8", "replace"))
                for channel, frame, excluded in zip(self.channels, answer[::2], answer[1::2], strict=True)
                if is_safe_frame(frame)
            ]
        corrected = [change(frame.decode()) for _, frame, _ in stored]
        names, args = list[str](), list[str | bytes | int]()
        for (channel, frame, excluded), new in zip(stored, corrected, strict=True):
            if new.encode() != frame:
                names.append(self.keys.log(self.shard, channel))
                lead = f"- 0 0 {self.announced_as}"
                if users := excluded.split("\n")[1:-1]:
                    lead += f" {Exclusion(frozenset(users)).text()}"
                args += (frame, new, self.keys.announcements(self.shard, channel), lead)
        if not names:
            return corrected, None
        args = [self.message_id, self.keys.publish_command, *args]
        return corrected, Call(script("correct"), self.shard, names, args)


def corrections(keys: Keys, message_id: str, channels: Sequence[str]) -> Iterator[Correction]:
    """The corrections that together change a message in all these channels."""
    announced_as = EPHEMERAL_PREFIX + new_id()
    for shard, here in _chunks(keys, channels):
        yield Correction(keys, shard, here, message_id, announced_as)


def _chunks(keys: Keys, channels: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for shard in range(keys.shards):
        here = [channel for channel in channels if shard in keys.shards_of(channel)]
        for start in range(0, len(here), SEARCHED_CHUNK):
            yield shard, here[start : start + SEARCHED_CHUNK]
