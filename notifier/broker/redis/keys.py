"""The names of all keys and pub/sub channels in Redis: one prefix, one hash tag per shard. docs/redis.md says what each
key holds.

Must not know: asyncio, HTTP, who reads or writes.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Final

KINDS: Final = {
    "seq": "number",
    "epoch": "string",
    "identity": "string",
    "floor": "hash",
    "log": "stream",
    "events": "stream",
    "meta": "hash",
    "task": "hash",
    "tasks": "zset",
    "output": "stream",
    "beats": "zset",
    "read": "zset",
    "hidden": "zset",
    "revoked": "string",
    "idem": "hash",
}
"""The Redis type of each kind of key. The kind is the word after the shard's tag; a `number` is a string for INCR."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix, over `shards` shards (a shard is a Redis hash tag)."""

    prefix: str = "notifier:"
    shards: int = 1

    def shard_of(self, channel: str) -> int | None:
        """The shard of a user's channel; None for groups and `all`, which are written to every shard."""
        scope, _, name = channel.partition(":")
        return self.shard_of_name(name) if scope == "user" else None

    def shard_of_name(self, name: str) -> int:
        """The shard of a user id, or the home shard of a task id."""
        return zlib.crc32(name.encode()) % self.shards if self.shards > 1 else 0

    def shards_of(self, channel: str) -> range:
        """Every shard that an event to this channel is written to."""
        shard = self.shard_of(channel)
        return range(self.shards) if shard is None else range(shard, shard + 1)

    def kind(self, key: str) -> str:
        """The kind of a key, as in `KINDS`."""
        return key[len(self.prefix) :].partition("}:")[2].partition(":")[0]

    def tag(self, shard: int) -> str:
        return f"{self.prefix}{{{shard}}}:"

    def seq(self, shard: int) -> str:
        return f"{self.tag(shard)}seq"

    def epoch(self, shard: int) -> str:
        return f"{self.tag(shard)}epoch"

    def identity(self, shard: int) -> str:
        return f"{self.tag(shard)}identity"

    def floor(self, shard: int) -> str:
        return f"{self.tag(shard)}floor"

    def log(self, shard: int, channel: str) -> str:
        """The messages of a channel."""
        return f"{self.tag(shard)}log:{channel}"

    def events(self, shard: int, channel: str) -> str:
        """The durable events of a channel that are no messages."""
        return f"{self.tag(shard)}events:{channel}"

    def meta(self, shard: int, channel: str) -> str:
        return f"{self.tag(shard)}meta:{channel}"

    def of_shard(self, shard: int) -> tuple[str, str, str]:
        """Counter, epoch and floor: what every durable event of a shard changes."""
        tag = self.tag(shard)
        return f"{tag}seq", f"{tag}epoch", f"{tag}floor"

    def of_user(self, shard: int, user: str) -> tuple[str, str, str]:
        """Revocation token, read marks and deletions."""
        tag = self.tag(shard)
        return f"{tag}revoked:{user}", f"{tag}read:{user}", f"{tag}hidden:{user}"

    def of_channel(self, shard: int, channel: str) -> tuple[str, str, str, str]:
        """Messages, other events, meta and pub/sub channel: what an event to a channel changes."""
        tag = self.tag(shard)
        return f"{tag}log:{channel}", f"{tag}events:{channel}", f"{tag}meta:{channel}", f"{tag}ch:{channel}"

    def task_prefix(self, shard: int) -> str:
        return f"{self.tag(shard)}task:"

    def task(self, shard: int, task_id: str) -> str:
        return f"{self.tag(shard)}task:{task_id}"

    def output(self, shard: int, task_id: str) -> str:
        """The pieces of a task's output."""
        return f"{self.tag(shard)}output:{task_id}"

    def tasks(self, shard: int, channel: str) -> str:
        return f"{self.tag(shard)}tasks:{channel}"

    def beats(self, shard: int) -> str:
        return f"{self.tag(shard)}beats"

    def read(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}read:{user}"

    def hidden(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}hidden:{user}"

    def revoked(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}revoked:{user}"

    def idempotency(self, shard: int, key: str) -> str:
        """Idempotency keys come from clients and may be long: a digest stands for them."""
        return f"{self.tag(shard)}idem:{hashlib.sha256(key.encode()).hexdigest()[:40]}"

    def announcements(self, shard: int, channel: str) -> str:
        """The pub/sub channel on which events of a channel are announced."""
        return f"{self.tag(shard)}ch:{channel}"

    def canary(self, shard: int, process: str) -> str:
        """The pub/sub channel of one process's canary."""
        return f"{self.tag(shard)}canary:{process}"
