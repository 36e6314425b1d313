"""Where brokers are opened: the scheme of an address names the backend.

Must not know: how a backend stores or announces.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Final
from urllib.parse import urlsplit

from notifier.broker import Broker
from notifier.broker.values import History, Options
from notifier.errors import ConfigurationError
from notifier.settings import Settings

BACKENDS: Final = {
    "memory": "notifier.broker.memory.broker:MemoryBroker",
    "sqlite": "notifier.broker.sqlite.broker:SqliteBroker",
    "redis": "notifier.broker.redis.broker:RedisBroker",
    "rediss": "notifier.broker.redis.broker:RedisBroker",
    "unix": "notifier.broker.redis.broker:RedisBroker",
    "redis+sentinel": "notifier.broker.redis.broker:RedisBroker",
    "rediss+sentinel": "notifier.broker.redis.broker:RedisBroker",
    "redis+cluster": "notifier.broker.redis.broker:RedisBroker",
    "rediss+cluster": "notifier.broker.redis.broker:RedisBroker",
}
"""A subclass of `Broker` for each scheme. Imported when it is opened: redis-py is 6 MB that the embedded brokers do
without."""
ONE_PROCESS: Final = ("memory", "sqlite")
"""The schemes of brokers that live in one process."""


def backend_of(settings: Settings) -> str:
    """The entry of `BACKENDS` that the settings name. Raises `ConfigurationError` where there is none, or it
    cannot do what another setting asks for."""
    url, scheme = settings.broker_url, scheme_of(settings)
    if scheme not in BACKENDS or (scheme == "memory" and url != "memory:") or (scheme != "memory" and "://" not in url):
        known = ", ".join("memory:" if known == "memory" else f"{known}://" for known in BACKENDS)
        raise ConfigurationError(f"{settings.broker_variable}: must start with one of {known}")
    if settings.redis_wait_replicas and scheme in ONE_PROCESS:
        raise ConfigurationError(
            f"NOTIFIER_REDIS_WAIT_REPLICAS: {scheme} has no replicas: set {settings.broker_variable} to an address of "
            "Redis, or remove this setting"
        )
    return BACKENDS[scheme]


def scheme_of(settings: Settings) -> str:
    """The scheme of the broker's address."""
    return urlsplit(settings.broker_url).scheme


def open_broker(settings: Settings) -> Broker:
    """The broker that the settings name. It connects in `start()`. Raises `ConfigurationError`."""
    options = Options(
        history=History(
            settings.history_size,
            settings.event_history_size,
            settings.history_ttl_s,
            settings.topic_history_size,
            settings.topic_history_ttl_s,
        ),
        max_replay=settings.max_replay,
        prefix=settings.prefix,
        shards=settings.shards,
        sqlite_synchronous=settings.sqlite_synchronous,
        output_bytes=settings.task_output_bytes,
        redis_wait_replicas=settings.redis_wait_replicas,
    )
    broker: type[Broker] = resolve_name(backend_of(settings))
    try:
        return broker.from_url(settings.broker_url, options)
    except (ValueError, OSError) as exc:
        raise ConfigurationError(f"{settings.broker_variable}: {exc}") from None
