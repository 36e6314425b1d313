"""The model Redis answers as a real one does: the same random calls on both, through the same broker code."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
import redis

from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.broker import RedisBroker
from notifier.broker.redis.connection import Receive
from notifier.broker.redis.scripts import Script
from notifier.broker.values import History, Idempotency, Options
from notifier.errors import NotifierError
from notifier.event import Cursor, custom
from notifier.message import message_event
from notifier.task import begin
from tests.broker.support import Recorder
from tests.simulation.redis_data import Data, ReplyError
from tests.simulation.redis_model import ModelRedis
from tests.support import RedisServer

CHANNELS = ["all", "group:a", "user:ann"]
CALLS = 1500


class Both:
    """A real Redis and the model, in place of a broker's connection: each call goes to both, with equal answers."""

    def __init__(self, url: str) -> None:
        self.real = redis.Redis.from_url(url)
        self.real.delete("model:", *self.real.keys("model:*"))
        self.model = ModelRedis(Data(lambda: time.time() * 1000), lambda: "id", lambda *_: None)
        self._announced = self.real.pubsub(ignore_subscribe_messages=True)
        self._announced.psubscribe("model:*")
        self._announced.get_message(timeout=5)
        self._payloads: list[bytes] = []
        self.model.do_publish = self._publish  # type: ignore[method-assign]
        self.scripts = 0

    def _publish(self, _: object, topic: bytes, payload: bytes) -> int:
        self._payloads.append(payload)
        return 1

    def send(self, receive: Receive, *command: Any) -> None:
        """Scripts are called again by their source: the two share no cache of scripts."""
        receive(hiredis.ReplyError("NOSCRIPT"))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        return await self.call("EVAL", script.source, len(keys), *keys, *args)

    async def call(self, *command: Any) -> Any:
        args = _encoded(command)
        real = _answer(lambda: self.real.execute_command(*args, NEVER_DECODE=True))
        model = _answer(lambda: self.model.run(args[0].decode(), args[1:]))
        assert _comparable(model) == _comparable(real), command
        self.scripts += command[0] == "EVAL"
        payloads, self._payloads = self._payloads, []
        for payload in payloads:
            assert self._announced.get_message(timeout=5)["data"] == payload
        return _raised(real)

    def close(self) -> None:
        self._announced.close()  # type: ignore[no-untyped-call]
        self.real.close()


def _encoded(args: Any) -> list[bytes]:
    return [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]


def _answer(ask: Any) -> Any:
    try:
        return ask()
    except (redis.ResponseError, ReplyError) as exc:
        return hiredis.ReplyError(str(exc))


def _raised(answer: Any) -> Any:
    if isinstance(answer, hiredis.ReplyError):
        raise answer
    return answer


def _comparable(answer: Any) -> Any:
    if isinstance(answer, (list, tuple)):
        return [_comparable(part) for part in answer]
    if isinstance(answer, hiredis.ReplyError):
        return ("error", "WRONGTYPE" in str(answer))
    if isinstance(answer, str):
        return answer.encode()
    return bytes(answer) if isinstance(answer, bytes) else answer


@pytest.fixture
def both(redis_server: RedisServer) -> Iterator[Both]:
    pair = Both(redis_server.url)
    yield pair
    pair.close()


def _broker_on(both: Both) -> RedisBroker:
    history = History(size=5, event_size=3, ttl_s=60)
    options = Options(history=history, max_replay=6, prefix="model:", shards=1)
    broker: Any = RedisBroker.from_url("redis://both", options)
    broker._shards.primaries[0].connection = both
    broker._shards.subscriptions = [SimpleNamespace(topics=Topics(Recorder()))]
    return broker  # type: ignore[no-any-return]


async def _one_call(broker: RedisBroker, chance: random.Random, number: int, epoch: str) -> str:
    """A random call. Returns the epoch of the last opening."""
    channels = chance.sample(CHANNELS, chance.randrange(1, 4))
    ids = [f"m{chance.randrange(number + 1)}" for _ in range(5)]
    kind = chance.random()
    key = Idempotency(f"k{chance.randrange(50)}", chance.choice("ab")) if chance.random() < 0.3 else None
    if kind < 0.2:
        fields = {"to": channels, "subject": "s", "id": f"m{number}"}
        await broker.publish(message_event(fields, may_repeat=chance.random() < 0.5), key)
    elif kind < 0.4:
        event = custom(to=channels, event_type="x", data=number, durable=chance.random() < 0.8)
        await broker.publish(event, key)
    elif kind < 0.7:
        cursor = chance.choice((None, "?", Cursor("other", 1), *[Cursor(epoch, chance.randrange(number + 1))] * 5))
        portion_bytes, continued = chance.choice((0, 100)), chance.random() < 0.3
        opening = await broker.open("ann", channels, cursor, portion_bytes=portion_bytes, continued=continued)
        return opening.cursor.epoch
    elif kind < 0.75:
        await broker.create_task(begin(to=channels, name="n", task_id=f"t{number}", now_ms=number), key)
    elif kind < 0.85:
        task_id = f"t{chance.randrange(number + 1)}"
        await broker.change_task(task_id, lambda task: task.changed({"done": number}, now_ms=number), key)
    elif kind < 0.9:
        await broker.mark("ann", channels, chance.choice(("read", "all", "delete")), ids)
    elif kind < 0.97:
        await broker.inbox("ann", channels, limit=chance.choice((0, 3)), before=ids[0], unread_only=number % 2 == 0)
        await broker.tasks("ann", channels)
    elif kind < 0.99:
        await broker.dismiss_task("ann", f"t{chance.randrange(number + 1)}")
    else:
        await broker.forget("ann")
    return epoch


async def test_the_scripts_answer_and_announce_as_on_a_real_redis(both: Both) -> None:
    chance, broker, epoch = random.Random(1), _broker_on(both), "e"
    for number in range(CALLS):
        with contextlib.suppress(NotifierError):
            epoch = await _one_call(broker, chance, number, epoch)
    assert both.scripts > CALLS * 0.7


async def test_the_commands_answer_as_on_a_real_redis(both: Both) -> None:
    chance = random.Random(2)
    for _ in range(CALLS):
        with contextlib.suppress(hiredis.ReplyError):
            await both.call(*_one_command(chance))


def _one_command(chance: random.Random) -> tuple[object, ...]:
    key, other = f"model:{chance.randrange(4)}", f"model:{chance.randrange(4)}"
    first, last, score = chance.randrange(-4, 4), chance.randrange(-4, 4), chance.choice(("1", "2", "-3", "0.5"))
    bounds = (chance.choice(("-inf", "(1", "0.5")), chance.choice(("+inf", "(2", "1")))
    return chance.choice(
        (
            ("SET", key, chance.choice(("1", "text", "-7"))),
            ("GET", key),
            ("INCR", key),
            ("DEL", key, other),
            ("EXISTS", key),
            ("TYPE", key),
            ("EXPIRE", key, 100),
            ("RENAME", key, other),
            ("HSET", key, "a", 1, "b", 2),
            ("HSETNX", key, "c", 3),
            ("HDEL", key, "a", "c"),
            ("HGET", key, "a"),
            ("HMGET", key, "a", "x"),
            ("XADD", key, "MAXLEN", 3, f"{chance.randrange(1, 60)}-0", "f", "v"),
            ("XLEN", key),
            ("XRANGE", key, chance.choice(("-", "9-0")), chance.choice(("+", "30-0"))),
            ("XRANGE", key, "-", "+", "COUNT", 2),
            ("XREVRANGE", key, "+", "-", "COUNT", 1),
            ("ZADD", key, score, f"m{chance.randrange(6)}"),
            ("ZREM", key, f"m{chance.randrange(6)}"),
            ("ZCARD", key),
            ("ZRANGE", key, first, last),
            ("ZREVRANGE", key, first, last),
            ("ZRANGE", key, *bounds, "BYSCORE", "LIMIT", 0, 3),
            ("ZREMRANGEBYRANK", key, first, last),
            ("ZREMRANGEBYSCORE", key, *bounds),
        )
    )
