"""The values of the model Redis, and the commands on them that the service and its scripts use.

`tests/simulation/test_model_redis.py` compares it with a real Redis.
"""

from __future__ import annotations

import bisect
import copy
import math
import re
from collections.abc import Callable
from typing import Any

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class ReplyError(Exception):
    """An error reply."""


class Status(bytes):
    """A status reply."""


OK = Status(b"OK")


class Log:
    """A Redis stream whose entries have ids of the form `<number>-0`."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.fields: list[list[bytes]] = []
        self.last = 0

    def row(self, place: int) -> list[Any]:
        return [b"%d-0" % self.seqs[place], self.fields[place]]


KINDS: dict[type, bytes] = {bytes: b"string", dict: b"hash", Log: b"stream"}


class SortedSet(dict[bytes, float]):
    """Members with their scores."""

    def in_order(self) -> list[bytes]:
        return sorted(self, key=lambda member: (self[member], member))


class Data:
    """Keys, values and expiry. `now_ms` is the server's clock."""

    WRITES = frozenset(
        {"SET", "DEL", "INCR", "EXPIRE", "RENAME", "HSET", "HSETNX", "HDEL", "XADD", "ZADD", "ZREM"}
        | {"ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"}
    )

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self.now_ms = now_ms
        self.values: dict[bytes, Any] = {}
        self.expires: dict[bytes, float] = {}
        self.epoch_began: Callable[[str], None] = lambda epoch: None

    def copied(self) -> Data:
        other = Data(self.now_ms)
        other.epoch_began = self.epoch_began
        other.values, other.expires = copy.deepcopy(self.values), dict(self.expires)
        return other

    def knows(self, name: str) -> bool:
        return hasattr(self, "do_" + name.lower())

    def call(self, name: str, args: list[bytes]) -> Any:
        """Run a command. Raises `ReplyError`."""
        return getattr(self, "do_" + name.lower())(*args)

    def _value(self, key: bytes, kind: type) -> Any:
        at = self.expires.get(key)
        if at is not None and at <= self.now_ms():
            del self.expires[key], self.values[key]
        value = self.values.get(key)
        if value is not None and type(value) is not kind:
            raise ReplyError(WRONG_TYPE)
        return value

    def _new_or_known(self, key: bytes, kind: type) -> Any:
        value = self._value(key, kind)
        if value is None:
            value = self.values[key] = kind()
        return value

    def _drop_if_empty(self, key: bytes) -> None:
        if key in self.values and not isinstance(self.values[key], (bytes, Log)) and not self.values[key]:
            self.do_del(key)

    # Any type

    def _exists(self, key: bytes) -> bool:
        if key in self.values:
            self._value(key, type(self.values[key]))
        return key in self.values

    def do_exists(self, key: bytes) -> int:
        return int(self._exists(key))

    def do_del(self, *keys: bytes) -> int:
        removed = [key for key in dict.fromkeys(keys) if self._exists(key)]
        for key in removed:
            del self.values[key]
            self.expires.pop(key, None)
        return len(removed)

    def do_type(self, key: bytes) -> Status:
        if not self._exists(key):
            return Status(b"none")
        return Status(b"zset" if type(self.values[key]) is SortedSet else KINDS[type(self.values[key])])

    def do_expire(self, key: bytes, seconds: bytes) -> int:
        if not self._exists(key):
            return 0
        self.expires[key] = self.now_ms() + int(seconds) * 1000
        return 1

    def do_rename(self, key: bytes, name: bytes) -> Status:
        if not self._exists(key):
            raise ReplyError("ERR no such key")
        if key == name:
            return OK
        self.do_del(name)
        self.values[name] = self.values.pop(key)
        if key in self.expires:
            self.expires[name] = self.expires.pop(key)
        return OK

    def do_time(self) -> list[bytes]:
        seconds, ms = divmod(int(self.now_ms()), 1000)
        return [b"%d" % seconds, b"%d" % (ms * 1000)]

    # Strings

    def do_get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._value(key, bytes)
        return value

    def do_set(self, key: bytes, value: bytes, *options: bytes) -> Status | bytes | None:
        if options == (b"NX", b"GET"):
            stored = self.do_get(key)
            if stored is None:
                self.values[key] = value
            return stored
        self.do_del(key)
        self.values[key] = value
        if key.endswith(b"}:epoch"):
            self.epoch_began(value.decode())
        if options:
            self.do_expire(key, options[1])
        return OK

    def do_incr(self, key: bytes) -> int:
        value = self._value(key, bytes) or b"0"
        if not re.fullmatch(rb"-?\d+", value):
            raise ReplyError("ERR value is not an integer or out of range")
        self.values[key] = b"%d" % (int(value) + 1)
        return int(value) + 1

    # Hashes

    def do_hset(self, key: bytes, *pairs: bytes) -> int:
        value = self._new_or_known(key, dict)
        before = len(value)
        value.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(value) - before

    def do_hsetnx(self, key: bytes, field: bytes, text: bytes) -> int:
        value = self._new_or_known(key, dict)
        if field in value:
            return 0
        value[field] = text
        return 1

    def do_hdel(self, key: bytes, *fields: bytes) -> int:
        value = self._value(key, dict) or {}
        removed = [field for field in dict.fromkeys(fields) if value.pop(field, None) is not None]
        self._drop_if_empty(key)
        return len(removed)

    def do_hget(self, key: bytes, field: bytes) -> bytes | None:
        value: bytes | None = (self._value(key, dict) or {}).get(field)
        return value

    def do_hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        value = self._value(key, dict) or {}
        return [value.get(field) for field in fields]

    # Streams

    def do_xadd(self, key: bytes, *args: bytes) -> bytes:
        most = math.inf
        if args[0] == b"MAXLEN":
            most, args = int(args[1]), args[2:]
        log = self._new_or_known(key, Log)
        seq = int(args[0].partition(b"-")[0])
        if seq <= log.last:
            raise ReplyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        log.seqs.append(seq)
        log.fields.append(list(args[1:]))
        log.last = seq
        while len(log.seqs) > most:
            del log.seqs[0], log.fields[0]
        return args[0]

    def do_xlen(self, key: bytes) -> int:
        log = self._value(key, Log)
        return len(log.seqs) if log else 0

    def do_xrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[Any]:
        log = self._value(key, Log)
        if log is None:
            return []
        start = 0 if first == b"-" else bisect.bisect_left(log.seqs, int(first.partition(b"-")[0]))
        end = len(log.seqs) if last == b"+" else bisect.bisect_right(log.seqs, int(last.partition(b"-")[0]))
        if options:
            end = min(end, start + int(options[1]))
        return [log.row(place) for place in range(start, end)]

    def do_xrevrange(self, key: bytes, last: bytes, first: bytes, *options: bytes) -> list[Any]:
        rows = self.do_xrange(key, first, last)[::-1]
        return rows[: int(options[1])] if options else rows

    # Sorted sets

    def do_zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        value = self._new_or_known(key, SortedSet)
        added = member not in value
        value[member] = float(score)
        return int(added)

    def do_zrem(self, key: bytes, *members: bytes) -> int:
        value = self._value(key, SortedSet) or {}
        removed = [member for member in members if value.pop(member, None) is not None]
        self._drop_if_empty(key)
        return len(removed)

    def do_zcard(self, key: bytes) -> int:
        return len(self._value(key, SortedSet) or ())

    def do_zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = (self._value(key, SortedSet) or {}).get(member)
        return None if score is None else _shown(score)

    def do_zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        value = self._value(key, SortedSet)
        members = value.in_order() if value else []
        if options and options[0] == b"BYSCORE":
            members = [member for member in members if _is_within(value[member], first, last)]
            if len(options) > 1:
                start = int(options[2])
                members = members[start : start + int(options[3])]
            return members
        return members[_places(first, last, len(members))]

    def do_zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        value = self._value(key, SortedSet)
        members = value.in_order()[::-1] if value else []
        chosen = members[_places(first, last, len(members))]
        return [part for member in chosen for part in (member, _shown(value[member]))] if options else chosen

    def do_zremrangebyrank(self, key: bytes, first: bytes, last: bytes) -> int:
        return self.do_zrem(key, *self.do_zrange(key, first, last))

    def do_zremrangebyscore(self, key: bytes, first: bytes, last: bytes) -> int:
        return self.do_zrem(key, *self.do_zrange(key, first, last, b"BYSCORE"))


def _shown(score: float) -> bytes:
    return b"%d" % score if score == int(score) else repr(score).encode()


def _is_within(score: float, first: bytes, last: bytes) -> bool:
    low, high = float(first.lstrip(b"(")), float(last.lstrip(b"("))
    above = score > low if first.startswith(b"(") else score >= low
    return above and (score < high if last.startswith(b"(") else score <= high)


def _places(first: bytes, last: bytes, size: int) -> slice:
    start, end = int(first), int(last)
    start = max(0, start + size) if start < 0 else start
    end = end + size if end < 0 else end
    return slice(start, max(start, end + 1))
