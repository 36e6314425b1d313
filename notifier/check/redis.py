"""The servers of Redis or Valkey behind an address: every primary is asked for its settings, and every replica that
may take over.

A user without the right to CONFIG GET sees what INFO says of them.
Must not know: how the settings are judged.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import NoPermissionError
from redis.retry import Retry
from redis.sentinel import Sentinel

from notifier.broker.redis.addresses import Target, host_of, parse_target
from notifier.broker.redis.client_info import without_client_info
from notifier.check import rules
from notifier.check.result import UNKNOWN, CannotAsk, Result
from notifier.check.rules import Server
from notifier.errors import ConfigurationError
from notifier.settings import Settings

TIMEOUT_S: Final = 3.0
CALLS: Final = (
    *("PING", "HELLO 3", "AUTH a b", "SELECT 0", "INFO", "CLIENT SETNAME a", "EVAL a 0", "EVALSHA a 0"),
    *("SUBSCRIBE CHANNEL", "UNSUBSCRIBE", "PUBLISH CHANNEL a", "SSUBSCRIBE CHANNEL", "SUNSUBSCRIBE"),
    *("SPUBLISH CHANNEL a", "PUBSUB NUMSUB CHANNEL", "PUBSUB SHARDNUMSUB CHANNEL"),
    *(
        "GET KEY",
        "SET KEY a",
        "DEL KEY",
        "RENAME KEY KEY",
        "TYPE KEY",
        "TIME",
        "INCR KEY",
        "EXISTS KEY",
        "EXPIRE KEY 1",
        "PEXPIRE KEY 1",
        "PTTL KEY",
    ),
    *("HGET KEY a", "HSCAN KEY 0", "HSETNX KEY a b", "HMGET KEY a", "HSET KEY a b", "HDEL KEY a"),
    *("XADD KEY * a b", "XDEL KEY 1-1", "XRANGE KEY - +", "XREVRANGE KEY + -", "XLEN KEY"),
    *("ZADD KEY 1 a", "ZCARD KEY", "ZREM KEY a", "ZSCORE KEY a", "ZRANGE KEY 0 1", "ZREVRANGE KEY 0 1"),
    *("ZREMRANGEBYRANK KEY 0 1", "ZREMRANGEBYSCORE KEY 0 1"),
)
"""A call of each command that every service needs. deploy/redis-users.acl grants these, and those of a cluster and of
`NOTIFIER_REDIS_WAIT_REPLICAS`."""
WAITING: Final = "WAIT 0 1"
_MISSING: Final = """
local missing = {}
for _, command in ipairs(cjson.decode(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(command)) then missing[#missing + 1] = command[1] end
end
return missing
"""
"""The commands of a list that this user may not call."""


def check_servers(settings: Settings) -> Iterator[Result]:
    """Raises `ConfigurationError` for an address that cannot be parsed, `CannotAsk` where no primary answers."""
    try:
        target = parse_target(settings.broker_url)
    except ValueError as exc:
        raise ConfigurationError(f"{settings.broker_variable}: {exc}") from None
    try:
        with contextlib.ExitStack() as stack:
            if target.mode == "sentinel":
                yield from _sentinels(target)
            for client in _primaries(target):
                stack.enter_context(contextlib.closing(client))
                server = _server(client, target, settings)
                yield from rules.results(server)
                if server.fails_over:
                    yield from _replicas(client, target, settings)
    except (redis.RedisError, OSError) as exc:
        raise CannotAsk(str(exc)) from None


def _primaries(target: Target) -> Iterator[redis.Redis]:
    """A client of each primary, in the order of the shards or of the slots."""
    if target.mode == "sentinel":
        host, port = _sentinel(target).discover_master(target.service)  # type: ignore[no-untyped-call]  # untyped
        yield _client(target.primary, host, port)
    elif target.mode == "cluster":
        seed = _first_that_answers(target.urls)
        with contextlib.closing(seed):
            rows = _call(seed, "CLUSTER", "SLOTS")
        own = seed.connection_pool.connection_kwargs["host"]
        places = dict.fromkeys((host_of(primary[0], own), primary[1]) for _, _, primary, *_ in sorted(rows))
        if not places:
            raise CannotAsk("no node of the cluster has a slot")
        for host, port in places:
            yield _client(target.urls[0], host, port)
    else:
        for url in target.urls:
            yield _client(url)


def _replicas(primary: redis.Redis, target: Target, settings: Settings) -> Iterator[Result]:
    """The next primaries, as this one knows them."""
    for name, row in primary.info("replication").items():
        if not (name.startswith("slave") and isinstance(row, dict)):
            continue
        with contextlib.closing(_client(target.primary or target.urls[0], row["ip"], row["port"])) as client:
            try:
                server = _server(client, target, settings, is_successor=True)
            except (CannotAsk, redis.RedisError, OSError) as exc:
                fix = "repeat where it can be reached, as the user of its primary"
                yield Result(f"{row['ip']}:{row['port']}", "replica", UNKNOWN, f"cannot be asked: {exc}", fix)
                continue
        yield from rules.results(server)


def _client(url: str, host: str = "", port: int = 0) -> redis.Redis:
    place = {"host": host, "port": port} if host else {}
    client = redis.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    client.connection_pool.connection_kwargs.update(place)
    return _unnamed(client)


def _unnamed(client: redis.Redis) -> redis.Redis:
    pool = client.connection_pool
    pool.connection_class = without_client_info(pool.connection_class)
    return client


def _call(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


def _first_that_answers(urls: tuple[str, ...]) -> redis.Redis:
    reasons = []
    for url in urls:
        client = _client(url)
        try:
            client.ping()
        except (redis.RedisError, OSError) as exc:
            client.close()
            reasons.append(str(exc))
            continue
        return client
    raise CannotAsk("; ".join(reasons))


def _server(client: redis.Redis, target: Target, settings: Settings, *, is_successor: bool = False) -> Server:
    options = client.connection_pool.connection_kwargs
    address = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
    try:
        info = {name: str(value) for name, value in client.info("all").items()}
    except (redis.RedisError, OSError) as exc:
        raise CannotAsk(f"{address}: {exc}") from None
    return Server(
        address=address,
        config=_config(client, info),
        info=info,
        missing=_missing(client, target, settings),
        fails_over=target.mode in ("sentinel", "cluster"),
        wait_replicas=settings.redis_wait_replicas,
        is_successor=is_successor,
    )


def _config(client: redis.Redis, info: Mapping[str, str]) -> dict[str, str]:
    try:
        answer = _call(client, "CONFIG", "GET", "*")
    except redis.ResponseError:  # no right, or renamed by a provider
        values = {"maxmemory-policy": info.get("maxmemory_policy"), "maxmemory": info.get("maxmemory")}
        values["appendonly"] = {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""))
        return {name: value for name, value in values.items() if value is not None}
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else dict(answer)


def _missing(client: redis.Redis, target: Target, settings: Settings) -> list[str] | None:
    try:
        refused: list[str] = _call(client, "EVAL", _MISSING, 0, json.dumps(_commands(target, settings)))
    except NoPermissionError:
        return ["EVAL"]
    except redis.ResponseError:  # Redis before 7.0, or a provider without EVAL
        return None
    return refused


def _commands(target: Target, settings: Settings) -> list[list[str]]:
    """Each command of the service as a call that names one of its keys or channels."""
    tag = f"{settings.prefix}{{0}}:"
    key, channel = f"{tag}seq", f"{tag}ch:all"
    calls = [call.replace("KEY", key).replace("CHANNEL", channel).split() for call in CALLS]
    if target.mode == "cluster":
        calls.append(["CLUSTER", "SLOTS"])
    if settings.redis_wait_replicas:
        calls.append(WAITING.split())
    return calls


def _sentinel(target: Target) -> Sentinel:
    parts = [parse_url(url) for url in target.urls]  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    options: dict[str, Any] = {name: value for name, value in parts[0].items() if name.startswith("ssl_")}
    options["ssl"] = parts[0].get("connection_class") is redis.SSLConnection
    options |= {name: parts[0].get(name) for name in ("username", "password")}
    options |= {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        [(part["host"], part["port"]) for part in parts], sentinel_kwargs={**options, "decode_responses": True}
    )
    for client in sentinel.sentinels:
        _unnamed(client)
    return sentinel


def _sentinels(target: Target) -> Iterator[Result]:
    """The Sentinels themselves, as the first that answers knows them."""
    reasons = []
    for sentinel in _sentinel(target).sentinels:
        options = sentinel.connection_pool.connection_kwargs
        address = f"{options['host']}:{options['port']}"
        try:
            state: Any = sentinel.sentinel_master(target.service)
        except (redis.RedisError, OSError) as exc:
            reasons.append(f"{address}: {exc}")
            continue
        yield rules.sentinels(address, state["num-other-sentinels"] + 1, state["quorum"], target.service)
        fix = f"at each Sentinel: SENTINEL SET {target.service} down-after-milliseconds 5000"
        milliseconds = str(state["down-after-milliseconds"])
        yield rules.takeover(address, "down-after-milliseconds", milliseconds, fix)
        return
    raise CannotAsk(f"no Sentinel knows {target.service}: {'; '.join(reasons)}")
