"""The names of all keys and pub/sub channels in Redis: one prefix, one hash tag per shard. docs/redis.md says what each
key holds.

Must not know: asyncio, HTTP, who reads or writes.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

Placement = Literal["plain", "several", "sharded"]
"""All shards on one primary; each on a primary of its own; spread over the slots of a cluster."""

SLOTS: Final = 16_384
"""Hash slots of a cluster."""

FORGOTTEN_WORD: Final = "forgotten"
"""In the token and the announcement of a `disconnect`: the user was forgotten."""

KINDS: Final = {
    "seq": "number",
    "epoch": "string",
    "identity": "string",
    "replicated": "string",
    "layout": "string",
    "floor": "hash",
    "log": "stream",
    "events": "stream",
    "meta": "hash",
    "task": "hash",
    "tasks": "zset",
    "output": "stream",
    "beats": "zset",
    "asking": "zset",
    "read": "zset",
    "hidden": "zset",
    "revoked": "string",
    "people": "hash",
    "seen": "string",
    "connections": "stream",
    "idem": "hash",
}
"""The Redis type of each kind of key. The kind is the word after the shard's tag; a `number` is a string for INCR."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix, over `shards` shards (a shard is a Redis hash tag)."""

    prefix: str = "notifier:"
    shards: int = 1
    placement: Placement = "plain"
    _tags: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """What precedes the names of a shard, by shard."""

    def __post_init__(self) -> None:
        tags = tags_of(self.shards, is_sharded=self.is_sharded)
        object.__setattr__(self, "_tags", tuple(f"{self.prefix}{{{tag}}}:" for tag in tags))

    @property
    def is_sharded(self) -> bool:
        """True in a cluster: its announcements are sharded too."""
        return self.placement == "sharded"

    @property
    def publish_command(self) -> str:
        return "SPUBLISH" if self.is_sharded else "PUBLISH"

    @property
    def layout(self) -> str:
        """The key that holds the layout that all processes share. It has the same name in every layout, so that a
        process with another one finds it."""
        return f"{self.prefix}{{0}}:layout"

    def layout_at(self, shard: int) -> str:
        """The layout, as it is stored on the primary of a shard."""
        here = f" {shard}" if self.placement == "several" else ""
        return f"{self.shards} {self.placement}{here}"

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

    def shard_of_topic(self, topic: str) -> int:
        """The shard of a pub/sub channel."""
        if self.shards == 1:
            return 0
        return self._tags.index(topic[: topic.index("}") + 2])

    def kind(self, key: str) -> str:
        """The kind of a key, as in `KINDS`."""
        return key[len(self.prefix) :].partition("}:")[2].partition(":")[0]

    def tag(self, shard: int) -> str:
        return self._tags[shard]

    def seq(self, shard: int) -> str:
        return f"{self.tag(shard)}seq"

    def epoch(self, shard: int) -> str:
        return f"{self.tag(shard)}epoch"

    def identity(self, shard: int) -> str:
        return f"{self.tag(shard)}identity"

    def replicated(self, shard: int) -> str:
        """What is written before replicas are asked whether they have everything."""
        return f"{self.tag(shard)}replicated"

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

    def of_opening(self, shard: int, channel: str) -> tuple[str, str, str, str]:
        """Messages, other events, meta and index of tasks: what a stream reads of a channel when it opens."""
        tag = self._tags[shard]
        return f"{tag}log:{channel}", f"{tag}events:{channel}", f"{tag}meta:{channel}", f"{tag}tasks:{channel}"

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

    def asking(self, shard: int) -> str:
        """The tasks with an open question, by its deadline."""
        return f"{self.tag(shard)}asking"

    def read(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}read:{user}"

    def hidden(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}hidden:{user}"

    def people(self, shard: int, channel: str) -> str:
        """The leases of those who are present on a topic."""
        return f"{self.tag(shard)}people:{channel}"

    def seen(self, shard: int, user: str) -> str:
        """When the user was last seen."""
        return f"{self.tag(shard)}seen:{user}"

    def connections(self, shard: int, user: str) -> str:
        """The records of the user's last connections."""
        return f"{self.tag(shard)}connections:{user}"

    def revoked(self, shard: int, user: str) -> str:
        return f"{self.tag(shard)}revoked:{user}"

    def idempotency(self, shard: int, key: str) -> str:
        """Idempotency keys come from clients and may be long: a digest stands for them."""
        return f"{self.tag(shard)}idem:{hashlib.sha256(key.encode()).hexdigest()[:40]}"

    def announcements(self, shard: int, channel: str) -> str:
        """The pub/sub channel on which events of a channel are announced."""
        return f"{self.tag(shard)}ch:{channel}"

    def topics(self, shard: int, channels: Sequence[str]) -> tuple[str, ...]:
        """The pub/sub channels of several channels."""
        tag = self._tags[shard]
        return tuple([f"{tag}ch:{channel}" for channel in channels])

    def canary(self, shard: int, process: str) -> str:
        """The pub/sub channel of one process's canary."""
        return f"{self.tag(shard)}canary:{process}"


@cache
def tags_of(shards: int, *, is_sharded: bool) -> tuple[str, ...]:
    """The hash tag of each shard.

    In a cluster: for shard i of N the smallest `i.j` in the middle half of the i-th part of the slots. Clusters divide
    their slots evenly, so 12 shards are evenly spread over 2, 3, 4, 6 and 12 nodes.
    """
    if not is_sharded or shards == 1:
        return tuple(str(shard) for shard in range(shards))
    return tuple(_tag_in_the_middle(shard, shards) for shard in range(shards))


def _tag_in_the_middle(shard: int, shards: int) -> str:
    low, high = SLOTS * (shard + 0.25) / shards, SLOTS * (shard + 0.75) / shards
    number = 0
    while not low <= slot_of_tag(tag := f"{shard}.{number}") < high:
        number += 1
    return tag


def slot_of_tag(tag: str) -> int:
    """The slot of the keys with this hash tag (Redis Cluster specification, "Key distribution model")."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def slot_of(key: str) -> int:
    """The slot of a key of notifier, which has a hash tag."""
    return slot_of_tag(key.partition("{")[2].partition("}")[0])


def layout_error(keys: Keys, here: str, stored: str) -> str:
    """What to tell the user where a process has another layout than the stored one."""
    return (
        f"Redis has the shards {stored!r}, and this process has {here!r}: NOTIFIER_SHARDS, the kind of address and the "
        "order of several addresses must be the same for every process and every Django project. To change them, stop "
        f"all of these, and remove the key {keys.layout}: users then begin with an empty history"
    )
