"""The address of Redis in each of its forms, as plain addresses that redis-py can parse.

    redis://, rediss://, unix://                           one primary
    redis://a:6379/0,redis://b:6379/0                      several primaries, one shard each
    redis+sentinel://s1:26379,s2:26379/<service>/<db>      a primary that fails over
    redis+cluster://n1:6379,n2:6379                        Redis or Valkey Cluster

`rediss+sentinel` and `rediss+cluster` are the same over TLS. Shared by the service and the Django bridge.

Must not know: connections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from notifier.broker.redis.keys import Keys

Mode = Literal["one", "several", "sentinel", "cluster"]

SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379
SCHEMES: Final = (
    *("redis", "rediss", "unix"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)
_NEXT: Final = re.compile(r",(?=[a-z+]+://)")
"""Where another address begins: a comma before a scheme."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address."""

    mode: Mode
    urls: tuple[str, ...]
    """Plain addresses. `one`, `several`: of the primaries, in the order of their shards; `sentinel`: of the Sentinels,
    with their own credentials; `cluster`: of some nodes."""
    service: str = ""
    """The name under which the Sentinels know the primary."""
    primary: str = ""
    """`sentinel`: a plain address with the primary's credentials, database and options. Its host is a Sentinel's."""


def parse_target(url: str) -> Target:
    """Parse an address. Raises ValueError, which names the part that cannot be used, without credentials."""
    parts = _NEXT.split(url)
    if len(parts) > 1:
        return Target("several", tuple(_plain(part) for part in parts))
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise ValueError(f"must start with one of {', '.join(f'{known}://' for known in SCHEMES)}")
    if scheme.endswith("+sentinel"):
        return _of_sentinels(url)
    if scheme.endswith("+cluster"):
        return _of_cluster(url)
    return Target("one", (_plain(url),))


def keys_of(target: Target, prefix: str, shards: int) -> Keys:
    """The keys for this address. Several primaries have a shard each, without `shards`, or with their number.

    Raises ValueError.
    """
    if target.mode == "several":
        number = len(target.urls)
        if shards not in (1, number):
            raise ValueError(f"{number} addresses are {number} shards: NOTIFIER_SHARDS is {shards}")
        return Keys(prefix, len(target.urls), "several")
    return Keys(prefix, shards, "sharded" if target.mode == "cluster" else "plain")


def host_of(named: bytes | str | None, asked: str) -> str:
    """The host of a node in CLUSTER SLOTS. A node that does not know it is at the host that was asked."""
    host = named.decode() if isinstance(named, bytes) else named
    return host if host and host != "?" else asked


def _plain(url: str) -> str:
    """A `redis://`, `rediss://` or `unix://` address, after checks."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return url
    shown = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError(f"{parts.scheme}://{shown} is not among several addresses: each is redis:// or rediss://")
    if "," in shown:
        raise ValueError(f"{shown}: after a comma, an address begins with its scheme, such as redis://b:6379")
    _host(shown, REDIS_PORT)
    _database(parts.path.strip("/"))
    return url


def _of_sentinels(url: str) -> Target:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the service is missing: redis+sentinel://host:26379,host:26379/<service>/<db>")
    options = parse_qs(parts.query)
    own = [quote(options.pop(f"sentinel_{name}", [""])[0], safe="") for name in ("username", "password")]
    login, at, hosts = parts.netloc.rpartition("@")
    query = urlencode(options, doseq=True)
    plain = parts._replace(query=query)
    primary = _urls(urlunsplit(plain._replace(netloc=f"{login}{at}{hosts}")), SENTINEL_PORT, _database(database))[0]
    at = "@" if any(own) else ""
    sentinels = plain._replace(netloc=f"{':'.join(own) if at else ''}{at}{hosts}")
    return Target("sentinel", _urls(urlunsplit(sentinels), SENTINEL_PORT, 0), unquote(service), primary)


def _of_cluster(url: str) -> Target:
    if _database(urlsplit(url).path.strip("/")):
        raise ValueError("a cluster has only the database 0")
    return Target("cluster", _urls(url, REDIS_PORT, 0))


def _urls(url: str, port: int, database: int) -> tuple[str, ...]:
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    query = f"?{parts.query}" if parts.query else ""
    scheme = parts.scheme.partition("+")[0]
    return tuple(f"{scheme}://{login}{at}{_host(part, port)}/{database}{query}" for part in hosts.split(","))


def _host(part: str, port: int) -> str:
    """A host with its port, from one with or without."""
    try:
        parts = urlsplit(f"//{part}")
        number = port if parts.port is None else parts.port
    except ValueError as exc:
        raise ValueError(f"{part!r} is not a host and a port: {exc}") from None
    if not parts.hostname:
        raise ValueError(f"{part!r} has no host")
    return part if parts.port is not None else f"{part.rstrip(':')}:{number}"


def _database(text: str) -> int:
    if text and not text.isdecimal():
        raise ValueError(f"{text!r} is not the number of a database")
    return int(text or 0)
