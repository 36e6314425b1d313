"""What each setting of a Redis or Valkey server means for the promises of docs/reliability.md.

Must not know: how the settings were read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from notifier.broker.redis.identity import Identity
from notifier.check.result import OK, UNKNOWN, WEAKENS, Result, Verdict

OLDEST: Final = (7, 0)
PUBSUB_BUFFER: Final = (32 * 2**20, 8 * 2**20, 60)
"""Redis' own limits of a subscriber's output buffer: bytes at once, bytes for so many seconds."""
IDLE_S: Final = 10
"""The service sends something on each connection more often than this (s)."""
SILENT_S: Final = 15.0
"""The longest time without a primary that is not remarked on (s)."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    address: str
    config: Mapping[str, str]
    """CONFIG GET; what INFO says of it, if that is refused."""
    info: Mapping[str, str]
    missing: Sequence[str] | None
    """Commands that the user may not call; None if the server does not say."""
    fails_over: bool
    """Whether a replica takes over when this server is dead."""
    wait_replicas: int = 0
    """Replicas that the service waits for."""
    is_successor: bool = False
    """A replica, judged as the primary that it may become."""


def results(server: Server) -> Iterator[Result]:
    """Every check of a server, in one order."""
    of_promises = (_eviction, _persistence, _replicas, _coverage, _takeover, _buffer, _idle, _rights)
    for check in (_version, _role, _identity, *of_promises):
        if (result := check(server)) is not None:
            yield result


def _result(server: Server, name: str, seen: str, weakens: str = "", fix: str = "") -> Result:
    text = f"{seen}: {weakens}" if weakens else seen
    return Result(server.address, name, WEAKENS if weakens else OK, text, fix)


def _configure(*settings: str) -> str:
    """The fix: these settings at once, and in the server's configuration file."""
    return ", ".join([*(f"CONFIG SET {setting}" for setting in settings), "CONFIG REWRITE"])


def _unknown(server: Server, name: str, setting: str) -> Result:
    return Result(
        server.address,
        name,
        UNKNOWN,
        f"this user may not read {setting}",
        "repeat with a user who may CONFIG GET, or see the provider's settings",
    )


def _version(server: Server) -> Result:
    valkey = server.info.get("valkey_version", "")
    version = server.info.get("redis_version", "0")
    seen = f"Valkey {valkey}" if valkey else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        return _result(server, "version", seen, "the service needs Redis 7.0 or Valkey", "upgrade")
    return _result(server, "version", seen)


def _role(server: Server) -> Result:
    role = server.info.get("role")
    if role == "master":
        return _result(server, "role", "primary")
    if role is None:
        return _result(server, "role", "INFO hides it, the service takes this server for a primary")
    primary = f"{server.info.get('master_host', '?')}:{server.info.get('master_port', '?')}"
    if server.is_successor:
        return _result(server, "role", f"replica of {primary}, may take over from it")
    return _result(server, "role", f"replica of {primary}", "the service does not start on it", f"use {primary}")


def _identity(server: Server) -> Result:
    identity = Identity.of(server.info)
    if not identity.hidden:
        return _result(server, "identity", "INFO shows run_id and master_replid")
    fix = "use a server that shows both, or let this one fail over under load before you rely on it"
    verdict: Verdict = WEAKENS if len(identity.hidden) == 2 else UNKNOWN
    return Result(server.address, "identity", verdict, f"INFO {identity.weakness}", fix)


def _eviction(server: Server) -> Result:
    policy = server.config.get("maxmemory-policy")
    if policy is None:
        return _unknown(server, "eviction", "maxmemory-policy")
    seen = f"maxmemory-policy {policy}"
    if policy == "noeviction":
        return _result(server, "eviction", seen)
    if server.config.get("maxmemory") == "0":
        return _result(server, "eviction", f"{seen}, without a limit of memory: nothing is evicted")
    weakens = "a full server drops histories, and clients miss events without a reset"
    return _result(server, "eviction", seen, weakens, _configure("maxmemory-policy noeviction"))


def _persistence(server: Server) -> Result:
    append, fsync = server.config.get("appendonly"), server.config.get("appendfsync")
    if append is None or (append == "yes" and fsync is None):
        return _unknown(server, "persistence", "appendonly and appendfsync")
    if append != "yes":
        save = server.config.get("save", "")
        seen = f"appendonly no, save {save or 'never'}"
        lost = "a crash loses what came after the last snapshot" if save else "a restart loses all events and marks"
        wrong = ["appendonly yes"] if fsync == "always" else ["appendonly yes", "appendfsync always"]
        return _result(server, "persistence", seen, lost, _configure(*wrong))
    seen = f"appendonly yes, appendfsync {fsync}"
    if fsync == "always":
        return _result(server, "persistence", seen)
    lost = "a crash loses the answered events of the last second"
    if fsync == "no":
        lost = "a crash of the machine loses the answered events of half a minute"
    return _result(server, "persistence", seen, lost, _configure("appendfsync always"))


def _replicas(server: Server) -> Result | None:
    if server.is_successor:  # its replicas are those of its primary
        return None if server.wait_replicas else _least_replicas(server)
    count = int(server.info.get("connected_slaves", "0"))
    if server.wait_replicas:
        seen = f"{count} connected, NOTIFIER_REDIS_WAIT_REPLICAS {server.wait_replicas}"
        if count >= server.wait_replicas:
            return _result(server, "replicas", seen)
        text = "every write is answered 503"
        return _result(server, "replicas", seen, text, "add replicas, or set NOTIFIER_REDIS_WAIT_REPLICAS lower")
    if not count and not server.fails_over:
        return None
    if not count:
        text = "a dead primary has no successor, and its clients wait until it is back"
        return _result(server, "replicas", "no replica is connected", text, "add a replica")
    return _least_replicas(server, f"{count} connected, ")


def _least_replicas(server: Server, connected: str = "") -> Result:
    least = server.config.get("min-replicas-to-write")
    if least is None:
        return _unknown(server, "replicas", "min-replicas-to-write")
    lag = server.config.get("min-replicas-max-lag", "10")
    seen = f"{connected}min-replicas-to-write {least}, min-replicas-max-lag {lag}"
    wrong = ["min-replicas-to-write 1"] if int(least) < 1 else []
    if int(lag) < 1:  # switches the other off
        wrong.append("min-replicas-max-lag 10")
    if wrong:
        text = "a primary that is cut off answers 200 to events that a failover removes; clients get a reset"
        return _result(server, "replicas", seen, text, f"{_configure(*wrong)}; {_price(server)}")
    return _result(server, "replicas", seen)


def _price(server: Server) -> str:
    """What `min-replicas-to-write` costs, and what does without it: docs/deploy.md has the figures."""
    refusing = "a new primary refuses writes until a replica follows it, 9 to 12 s with the Sentinels' own settings"
    if server.info.get("cluster_enabled") == "1":
        refusing = "a shard with a dead primary refuses writes until that is back"
    return f"its price: {refusing}. NOTIFIER_REDIS_WAIT_REPLICAS=1 is the other way"


def _coverage(server: Server) -> Result | None:
    if server.info.get("cluster_enabled") != "1":
        return None
    value = server.config.get("cluster-require-full-coverage")
    if value is None:
        return _unknown(server, "coverage", "cluster-require-full-coverage")
    seen = f"cluster-require-full-coverage {value}"
    if value == "no":
        return _result(server, "coverage", seen)
    text = "a dead shard makes all shards refuse"
    return _result(server, "coverage", seen, text, _configure("cluster-require-full-coverage no"))


def _takeover(server: Server) -> Result | None:
    if server.info.get("cluster_enabled") != "1":
        return None
    value = server.config.get("cluster-node-timeout")
    if value is None:
        return _unknown(server, "takeover", "cluster-node-timeout")
    return takeover(server.address, "cluster-node-timeout", value, _configure("cluster-node-timeout 5000"))


def takeover(server: str, setting: str, value_ms: str, fix: str) -> Result:
    """How long a dead primary is waited for."""
    seen = f"{setting} {value_ms} ms"
    if int(value_ms) <= SILENT_S * 1000:
        return Result(server, "takeover", OK, seen)
    text = f"{seen}: a dead primary is replaced after that time only, and its publishes answer 503 until then"
    return Result(server, "takeover", WEAKENS, text, fix)


def sentinels(server: str, number: int, quorum: int, service: str) -> Result:
    """Whether the Sentinels replace a dead primary where one of them is dead too, and it alone."""
    seen = f"{number} Sentinels, quorum {quorum}"
    if number < 3:
        text = f"{seen}: where one of them is dead, too few are left to replace a dead primary"
        return Result(server, "sentinels", WEAKENS, text, "run three Sentinels on three machines")
    fix = f"at each Sentinel: SENTINEL SET {service} quorum {number // 2 + 1}"
    if quorum >= number:
        text = f"{seen}: where one of them is dead, the others do not replace a dead primary"
        return Result(server, "sentinels", WEAKENS, text, fix)
    if quorum < 2:
        text = f"{seen}: one that is cut off from the primary has it replaced, which may lose its newest events"
        return Result(server, "sentinels", WEAKENS, text, fix)
    return Result(server, "sentinels", OK, seen)


def _buffer(server: Server) -> Result:
    words = server.config.get("client-output-buffer-limit", "").split()
    if "pubsub" not in words:
        return _unknown(server, "buffer", "client-output-buffer-limit")
    limits = words[words.index("pubsub") + 1 :][:3]
    seen = f"client-output-buffer-limit pubsub {' '.join(limits)}"
    # 0: no limit.
    if all(int(limit) == 0 or int(limit) >= least for limit, least in zip(limits, PUBSUB_BUFFER, strict=True)):
        return _result(server, "buffer", seen)
    text = "a burst of events ends the service's subscription, and every stream reads its history again"
    return _result(server, "buffer", seen, text, _configure("client-output-buffer-limit 'pubsub 32mb 8mb 60'"))


def _idle(server: Server) -> Result:
    value = server.config.get("timeout")
    if value is None:
        return _unknown(server, "idle", "timeout")
    if 0 < int(value) < IDLE_S:
        text = "idle connections are closed, and every stream becomes `degraded` for a moment"
        return _result(server, "idle", f"timeout {value} s", text, _configure("timeout 0"))
    return _result(server, "idle", f"timeout {value} s")


def _rights(server: Server) -> Result:
    if server.missing is None:
        seen = "this server does not say what this user may call: it is older than Redis 7.0, or refuses EVAL"
        return Result(server.address, "rights", UNKNOWN, seen, "compare them with deploy/redis-users.acl")
    if not server.missing:
        return _result(server, "rights", "this user may call every command of the service")
    text = "the service or some of its calls fail"
    fix = "grant them as deploy/redis-users.acl does"
    return _result(server, "rights", f"this user may not call {', '.join(server.missing)}", text, fix)
