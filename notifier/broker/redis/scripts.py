"""The Redis scripts as values: their keys and arguments, and what their answers mean.

Shared by the service (asynchronous) and the Django bridge (synchronous), so that both publish alike. A `Call` only
describes a script call; its user runs it with EVALSHA, and with EVAL after NOSCRIPT.

Must not know: asyncio, HTTP, connections.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from notifier.broker.redis.keys import KINDS, Keys
from notifier.broker.redis.notes import notes
from notifier.broker.values import EPHEMERAL_PREFIX, IDEMPOTENCY_TTL_S, History, Idempotency, Receipt
from notifier.errors import BrokerUnavailable, IdempotencyMismatch, NotifierError
from notifier.event import Event, id_from_key, new_id
from notifier.json_text import to_json
from notifier.rules import is_topic
from notifier.task import KEEP_RUNNING_S, Task

CHUNK: Final = 500
"""Most recipients of one script call. A larger publish is split, so that no call blocks Redis for more than a few
milliseconds."""
SEARCHED_CHUNK: Final = 25
"""The same where the call may search each history whole."""

MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError)
"""What reading an answer in another form raises."""

WITHOUT_READING: Final = (
    "publish",
    "task",
    "output",
    "records",
    "forget",
    "repair",
    "identity",
    "people",
    "seen",
    "connections",
    "shorten",
)
"""Scripts that use no function of `reading.lua`."""
WRITING: Final = frozenset({"publish", "task", "output", "mark", "forget", "retract", "correct"})
"""Scripts whose answer promises that something is stored."""
REMOVING: Final = ("publish", "retract")
"""Scripts that use the functions of `left.lua`."""

FOREIGN_VALUE_ERRORS: Final = ("WRONGTYPE", "not an integer")
"""Parts of the errors of a call whose key holds a foreign value: one that notifier did not write."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and its SHA-1, the name under which Redis caches it."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """A script of the folder `lua/`, preceded by the functions that it uses.

    name: `publish`, `task`, `output`, `open`, `messages`, `mark`, `records`, `forget`, `retract`, `correct`, `people`,
    `seen`, `connections`, `shorten`, `trail`, `repair` or `identity`.
    """
    folder = files("notifier.broker.redis") / "lua"
    parts = ["shared"]
    if name in REMOVING:
        parts.append("left")
    if name not in WITHOUT_READING:
        parts.append("reading")
    source = "".join((folder / f"{part}.lua").read_text("utf-8") for part in (*parts, name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """One script call on one shard."""

    script: Script
    shard: int
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


def publish_calls(
    event: Event,
    keys: Keys,
    *,
    history: History,
    idempotency: Idempotency | None = None,
    is_floor_due: Callable[[int], bool] = lambda shard: True,
    accepted_us: int = 0,
) -> Iterator[Call]:
    """The calls that publish one event: one for each shard and each chunk of its recipients.

    `is_floor_due` says whether a call brings its shard's floor up to date; now and then is enough. accepted_us: see
    `Sampling`.
    """
    size = history.size if event.message_id else history.event_size
    most = SEARCHED_CHUNK if event.replace_key else CHUNK
    has_topics = is_topic(event.to[0])
    for shard, recipients in _by_shard(event.to, keys):
        repeat_key = _repeat_key(event, idempotency, len(recipients), is_split=len(recipients) > most)
        stored: tuple[str, ...] = ("m", event.message_id) if event.message_id else ()
        if event.replace_key:
            stored += ("q", event.replace_key)
        if event.message_id:
            stored += ("a", f"{time.time_ns() // 1_000_000} {event.publisher}")
        if event.expires_at_ms:
            stored += ("x", str(event.expires_at_ms))
        if repeat_key != "-":
            stored += ("k", repeat_key)
        if event.excluded is not None or accepted_us:
            repeat_key += f" {notes(event.excluded, accepted_us)}"
        if event.excluded is not None and event.excluded.users:
            stored += ("n", "".join(["\n", *(f"{user}\n" for user in sorted(event.excluded.users))]))
        for start in range(0, len(recipients), most):
            chunk = recipients[start : start + most]
            names = [*keys.of_shard(shard)]
            args: list[str | bytes | int] = [
                fresh_epoch(),
                size,
                history.ttl_s,
                history.ttl_s * 10,
                event.head,
                event.tail,
                "m" if event.message_id else "e",
                idempotency.fingerprint if idempotency else "",
                IDEMPOTENCY_TTL_S,
                repeat_key,
                "1" if event.durable else "0",
                "1" if is_floor_due(shard) else "0",
                keys.publish_command,
                len(chunk),
                f"{sum(map(is_topic, chunk))} {history.topic_size} {history.topic_ttl_s}" if has_topics else "",
            ]
            for channel in chunk:
                messages, events, meta, announcements = keys.of_channel(shard, channel)
                names += (messages, events, meta) if event.message_id else (events, messages, meta)
                args += (announcements, to_json(channel) if event.tail else "")
            args += stored
            if idempotency:
                # The first chunk uses the key without a suffix, as task calls do: one key serves one call of any kind.
                names.append(keys.idempotency(shard, idempotency.key + (f"#{start}" if start else "")))
                if start:
                    names.append(keys.idempotency(shard, idempotency.key))
            yield Call(script("publish"), shard, names, args)


def _by_shard(channels: Sequence[str], keys: Keys) -> Iterable[tuple[int, Sequence[str]]]:
    """The channels of each shard that has some, in the order of the shards."""
    if keys.shards == 1:
        return ((0, channels),)
    grouped: dict[int, list[str]] = {}
    for channel in channels:
        for shard in keys.shards_of(channel):
            grouped.setdefault(shard, []).append(channel)
    return sorted(grouped.items())


def _repeat_key(event: Event, idempotency: Idempotency | None, recipients: int, *, is_split: bool) -> str:
    """The key by which a stream recognises the event if it comes again, or `-`."""
    if event.durable:
        if not event.may_repeat and not is_split:
            return "-"
        key, prefix = event.message_key, ""
    else:
        # Without a seq, a stream that listens to several recipients can recognise the event only by a key.
        if recipients <= 1:
            return "-"
        key, prefix = event.message_id, EPHEMERAL_PREFIX
    return prefix + (key or (id_from_key(idempotency.key) if idempotency else new_id()))


def fresh_epoch() -> str:
    """As `new_epoch`. A call needs one in case that its shard has none, so it has to be made fast."""
    return f"{random.getrandbits(48):012x}"


def receipt(answer: bytes | str) -> Receipt:
    """The receipt from the answer to a call of a publish. Raises `IdempotencyMismatch`."""
    state, epoch, seq, watched = _text(answer).split(" ")
    _raise_on_mismatch(state)
    return Receipt(epoch, int(seq), watched != "0")


def task_call(
    task: Task,
    keys: Keys,
    *,
    shard: int,
    expected_version: int,
    idempotency: Idempotency | None = None,
) -> Call:
    """The call that stores `task` on one shard if the stored version is `expected_version` (-1: if it is older)."""
    watching = [channel for channel in task.to if shard in keys.shards_of(channel)]
    names = [keys.task(shard, task.id), keys.beats(shard), *(keys.tasks(shard, channel) for channel in watching)]
    # In a cluster, a call that names an absent key is refused for as long as the shard is moving.
    if task.output_n:
        names.append(keys.output(shard, task.id))
    deadline_ms = 0 if task.question is None or expected_version == -1 else task.question.expires_at_ms
    if deadline_ms:
        names.append(keys.asking(shard))
    if idempotency:
        names.append(keys.idempotency(shard, idempotency.key))
    return Call(
        script("task"),
        shard,
        names,
        [
            expected_version,
            task.version,
            task.record(),
            *task.frame_parts(),
            task.updated_at_ms,
            task.keep_s,
            idempotency.fingerprint if idempotency else "",
            IDEMPOTENCY_TTL_S,
            task.id,
            keys.publish_command,
            KEEP_RUNNING_S,
            task.alive_at_ms or 0,
            task.output_n,
            task.output_chars,
            deadline_ms,
            *(keys.announcements(shard, channel) for channel in watching),
        ],
    )


@dataclass(frozen=True, slots=True)
class TaskWriteResult:
    """The outcome of a task call."""

    stored: bool = False
    """True if the new state was stored."""
    output: tuple[int, int] = (0, 0)
    """If it was: the number and the characters of the task's output at that moment."""
    repeated: bool = False
    """True if an earlier call with the same idempotency key was stored."""
    record: bytes | None = None
    """If the new state was not stored: that of the earlier call (`repeated`), or the stored one, of another version."""


def task_write_result(answer: Sequence[Any]) -> TaskWriteResult:
    """Parse the answer of `task.lua`. Raises `IdempotencyMismatch` if the key was used with another body."""
    state = _text(answer[0])
    _raise_on_mismatch(state)
    if state == "ok":
        return TaskWriteResult(stored=True, output=(int(answer[2]), int(answer[3])))
    return TaskWriteResult(repeated=state == "same", record=_bytes(answer[1]) or None)


def repair_arguments(keys: Keys, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keys and arguments of `repair.lua` for keys that may hold foreign values."""
    return [*names, *(f"{name}:foreign" for name in names)], [KINDS[keys.kind(name)] for name in names]


def _raise_on_mismatch(state: str) -> None:
    if state == "other":
        raise IdempotencyMismatch("was used with another body less than 5 minutes ago", field="Idempotency-Key")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raises `BrokerUnavailable` where the answer of the script, or of the command, is not in its form."""
    try:
        yield
    except NotifierError:
        raise
    except MALFORMED as exc:
        raise malformed(name, exc) from exc


def malformed(name: str, exc: Exception) -> BrokerUnavailable:
    """The error for an answer that could not be read."""
    return BrokerUnavailable(f"Redis answered {name} in another form: {exc}")
