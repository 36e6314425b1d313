"""The script call that opens a stream, and what its answer means.

Must not know: connections, subscriptions, streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from notifier.broker.redis.keys import FORGOTTEN_WORD, Keys
from notifier.broker.redis.scripts import Call, fresh_epoch, script
from notifier.broker.values import History, Opening
from notifier.event import Cursor, is_safe_frame
from notifier.rules import is_topic
from notifier.task import MAX_SNAPSHOT

_FORGOTTEN: Final = f"{FORGOTTEN_WORD}@".encode()


def open_call(
    keys: Keys,
    user: str,
    channels: Sequence[str],
    cursor: Cursor | str | None,
    *,
    history: History,
    max_replay: int,
    portion_bytes: int,
    continued: bool,
    joined: Mapping[str, int] | None,
) -> Call:
    """The arguments are those of `Broker.open`."""
    shard = keys.shard_of_name(user)
    counter, epoch, floor = keys.of_shard(shard)
    names = [epoch, counter, floor, *keys.of_user(shard, user)]
    for channel in channels:
        names += keys.of_opening(shard, channel)
    asked: tuple[str, int] = ("", 0)
    if isinstance(cursor, Cursor):
        asked = (cursor.epoch, cursor.seq)
    elif cursor is not None:
        asked = ("?", 0)
    args: list[str | bytes | int] = [
        *asked,
        int(time.time() * 1000),
        max_replay,
        fresh_epoch(),
        MAX_SNAPSHOT,
        history.ttl_s,
        portion_bytes,
        int(continued),
        sum(map(is_topic, channels)) if is_topic(channels[-1]) else 0,
        history.topic_ttl_s,
        f"\n{user}\n",
        *([joined.get(channel, 0) for channel in channels] if joined else ()),
    ]
    return Call(script("open"), shard, names, args)


def opening_of(
    topics: Sequence[str], skip: Callable[[int], None], answer: Sequence[Any]
) -> tuple[bytes, Opening, list[list[bytes]]]:
    """The epoch as Redis has it, the opening without tasks, and for each topic the ids of its tasks. `skip` is called
    with the seq of each entry that is not in notifier's form."""
    verdict, epoch, top, stored, unread, tasks, lasts, revoked, revoked_ago_ms, reached, missed = answer
    replay, keys = _in_order(stored, topics, skip) if stored else ([], {})
    seq, ago_ms = int(reached), int(revoked_ago_ms)
    opening = Opening(
        verdict.decode(),
        Cursor(epoch.decode(), seq),
        replay,
        int(unread),
        [],
        dict(zip(topics, map(int, lasts), strict=True)),
        revoked.decode("utf-8", "replace"),
        ago_ms / 1000 if ago_ms >= 0 else None,
        _FORGOTTEN in revoked,
        seq < int(top),
        int(missed),
        keys,
    )
    return epoch, opening, tasks


def _in_order(
    stored: list[Any], topics: Sequence[str], skip: Callable[[int], None]
) -> tuple[list[tuple[int, bytes]], dict[int, tuple[str, str]]]:
    """The entries of several channels by seq, without repeats, and the keys of those that are parts: an event to
    several channels or in several parts is in several logs."""
    frames: dict[int, bytes] = {}
    keys: dict[int, tuple[str, str]] = {}
    seen: set[bytes] = set()
    entries = zip(stored[::4], stored[1::4], stored[2::4], stored[3::4], strict=True)
    for seq, frame, key, channel in sorted(entries, key=lambda entry: int(entry[0])):
        if int(seq) in frames or (key and key in seen):
            continue
        if not is_safe_frame(frame):
            skip(int(seq))
            continue
        frames[int(seq)] = frame
        if key:
            seen.add(key)
            keys[int(seq)] = (key.decode("utf-8", "replace"), topics[int(channel) - 1])
    return list(frames.items()), keys
