"""What the transport `redis` reads, and how it runs a script on a shard.

Must not know: when a call is repeated, what is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import redis
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from django_bridge.conf import Settings
from django_bridge.publisher.redis_confirmations import Confirmations
from django_bridge.publisher.redis_connection import Deadline
from django_bridge.publisher.redis_places import TIMEOUT_SHARE, RedisPlaces
from django_bridge.publisher.transport import Attempt, Seen, Unreachable
from notifier.broker.inbox import by_channel
from notifier.broker.redis.message_calls import Look
from notifier.broker.redis.output_calls import TASK_FIELDS, stored_task
from notifier.broker.redis.scripts import FOREIGN_VALUE_ERRORS, WRITING, Call, Script, repair_arguments, script
from notifier.errors import NotAllowed
from notifier.task import Task

log = logging.getLogger("django_bridge")

T = TypeVar("T")


class RedisReading:
    """The connections to the shards, and the calls that change nothing."""

    def __init__(self, settings: Settings) -> None:
        self._deadline = Deadline()
        self._places = RedisPlaces(settings, self._deadline)
        self._keys = self._places.keys
        self._confirmations = Confirmations(
            self._keys, settings.redis_wait_replicas, self._deadline, settings.timeout_s * TIMEOUT_SHARE
        )

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Attempt[Mapping[str, Task]]:
        by_shard: dict[int, list[str]] = {}
        for task_id in ids:
            by_shard.setdefault(shard := self._keys.shard_of_name(task_id), []).append(self._keys.task(shard, task_id))

        def attempt(within_s: float) -> Mapping[str, Task]:
            rows: list[Any] = []
            with self._deadline.within(within_s):
                for shard, names in by_shard.items():
                    rows += self._at(shard, partial(_fields_of, names))
            kept = map(stored_task, rows)
            return {task.id: task for task in kept if task is not None}

        return attempt

    def cursor(self, user: str) -> Attempt[str]:
        shard = self._keys.shard_of_name(user)
        names = [self._keys.epoch(shard), self._keys.seq(shard)]

        def attempt(within_s: float) -> str:
            with self._deadline.within(within_s):
                epoch, seq = self._repaired(shard, partial(_texts_of, names), names)
            return f"{epoch}-{seq or 0}"

        return attempt

    def read_states(self, user: str, ids: Sequence[str]) -> Attempt[Mapping[str, bool]]:
        def attempt(within_s: float) -> Mapping[str, bool]:
            look = Look(self._keys, user)
            with self._deadline.within(within_s):
                while not look.is_complete:
                    look.add(self._run(look.call))
            (messages,) = by_channel([(f"user:{user}", look.rows)], look.marks, top=look.top)
            return {message_id: is_read for _, message_id, _, is_read in messages if message_id in ids}

        return attempt

    def presence(self, users: Sequence[str]) -> Attempt[Mapping[str, Seen]]:
        by_shard: dict[int, list[str]] = {}
        for user in users:
            by_shard.setdefault(self._keys.shard_of_name(user), []).append(user)

        def attempt(within_s: float) -> Mapping[str, Seen]:
            seen: dict[str, Seen] = {}
            with self._deadline.within(within_s):
                for shard, names in by_shard.items():
                    seen |= self._at(shard, partial(self._seen, shard, names))
            return seen

        return attempt

    def _seen(self, shard: int, users: Sequence[str], client: redis.Redis) -> Mapping[str, Seen]:
        """Presence of a shard's users, in one round trip."""
        calls = client.pipeline(transaction=False)
        # As two words: redis-py sends one that has a space as one.
        counting = "SHARDNUMSUB" if self._keys.is_sharded else "NUMSUB"
        topics = [self._keys.announcements(shard, f"user:{user}") for user in users]
        calls.execute_command("PUBSUB", counting, *topics)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        for user in users:
            calls.get(self._keys.seen(shard, user))
        counted, *times = calls.execute()
        return {
            user: Seen(int(streams) > 0, int(at) if at is not None and at.isdigit() else None)
            for user, streams, at in zip(users, counted[1::2], times, strict=True)
        }

    def close(self) -> None:
        self._places.close()

    def _run(self, call: Call) -> Any:
        """Run a script call. One that writes returns when the replicas that are waited for have it."""
        waits = self._confirmations.replicas > 0 and call.script.name in WRITING
        own = f"{self._keys.tag(call.shard)}idem:"
        key = next((name for name in call.keys if name.startswith(own)), None)

        def action(client: redis.Redis) -> Any:
            refusal: Exception | None = None
            if waits:
                answer, refusal = self._confirmed(call, client)
            else:
                answer = _script(call.script, call.keys, call.args, client)
            if key is not None:
                # Not stored where a task write is refused as stale: at worst, a failover begins a needless epoch.
                self._places.wrote(call.shard, client, key)
            if refusal is not None:
                raise refusal
            return answer

        return self._repaired(call.shard, action, call.keys)

    def _confirmed(self, call: Call, client: redis.Redis) -> tuple[Any, Exception | None]:
        """The answer to a script call, and why replicas do not confirm it. Raises `RedisError`."""
        for code in (call.script.sha, call.script.source):
            with client.pipeline(transaction=False) as calls:
                run = calls.evalsha if code is call.script.sha else calls.eval
                run(code, len(call.keys), *call.keys, *call.args)
                (answer,), refusal = self._confirmations.execute(calls, call.shard)
            if not isinstance(answer, NoScriptError):
                break
        if isinstance(answer, Exception):
            raise answer
        return answer, refusal

    def _repaired(self, shard: int, action: Callable[[redis.Redis], T], names: Sequence[str]) -> T:
        """Run `action` on a shard and return its answer. If a key of `names` holds a value that notifier did not write,
        rename the key to `<key>:foreign` and run `action` once more.

        A second run is safe: every script reads all its keys before its first write, so a run that failed on a key's
        type has changed nothing.
        """

        def repaired(client: redis.Redis) -> T:
            try:
                return action(client)
            except ResponseError as exc:
                if not any(part in str(exc) for part in FOREIGN_VALUE_ERRORS):
                    raise
                for key in _script(script("repair"), *repair_arguments(self._keys, names), client):
                    log.error("quarantined a key that holds a foreign value: %s is now %s:foreign", *[key.decode()] * 2)
                return action(client)

        return self._at(shard, repaired)

    def _at(self, shard: int, action: Callable[[redis.Redis], T]) -> T:
        """Run `action` with the client of a shard's primary. Raises `Unreachable`, and `NotAllowed` where the address'
        user lacks a right: a repeat changes nothing, and Redis is not away."""
        try:
            return action(self._places.of(shard))
        except NoPermissionError as exc:
            raise NotAllowed(f"Redis refused a command to the user of NOTIFIER['REDIS_URL']: {exc}") from exc
        except RedisError as exc:
            self._places.ask_again(shard)
            raise Unreachable(f"{type(exc).__name__}: {exc}") from exc


def _script(code: Script, names: Sequence[str], args: Sequence[str | bytes | int], client: redis.Redis) -> Any:
    try:
        return client.evalsha(code.sha, len(names), *names, *args)
    except NoScriptError:
        return client.eval(code.source, len(names), *names, *args)


def _texts_of(names: Sequence[str], client: redis.Redis) -> list[str]:
    with client.pipeline(transaction=False) as reading:
        for name in names:
            reading.get(name)
        values: list[bytes | None] = reading.execute()
    return [(value or b"").decode("utf-8", "replace") for value in values]


def _fields_of(names: Sequence[str], client: redis.Redis) -> list[Any]:
    with client.pipeline(transaction=False) as reading:
        for name in names:
            reading.hmget(name, TASK_FIELDS)
        return reading.execute()
