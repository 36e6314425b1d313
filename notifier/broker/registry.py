"""Where brokers are opened: the scheme of an address names the backend.

Must not know: how a backend stores or announces.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Final
from urllib.parse import urlsplit

from notifier.broker import Broker, History, Options
from notifier.errors import ConfigurationError
from notifier.settings import Settings

BACKENDS: Final = {
    "": "notifier.broker.memory.broker:MemoryBroker",
    "redis": "notifier.broker.redis.broker:RedisBroker",
    "rediss": "notifier.broker.redis.broker:RedisBroker",
    "unix": "notifier.broker.redis.broker:RedisBroker",
}
"""A subclass of `Broker` for each scheme; without an address, the embedded broker. Imported when it is opened: redis-py
is 6 MB that the embedded broker does without."""


def backend_of(settings: Settings) -> str:
    """The entry of `BACKENDS` that the settings name. Raises `ConfigurationError` where there is none."""
    url = settings.redis_url
    backend = BACKENDS.get(urlsplit(url).scheme)
    if backend is None or (url and "://" not in url):
        known = ", ".join(f"{scheme}://" for scheme in BACKENDS if scheme)
        raise ConfigurationError(f"NOTIFIER_REDIS_URL: must start with one of {known}")
    return backend


def open_broker(settings: Settings) -> Broker:
    """The broker that the settings name. It connects in `start()`. Raises `ConfigurationError`."""
    options = Options(
        history=History(settings.history_size, settings.event_history_size, settings.history_ttl_s),
        max_replay=settings.max_replay,
        prefix=settings.prefix,
        shards=settings.shards,
    )
    broker: type[Broker] = resolve_name(backend_of(settings))
    try:
        return broker.from_url(settings.redis_url, options)
    except (ValueError, OSError) as exc:
        raise ConfigurationError(f"NOTIFIER_REDIS_URL: {exc}") from None
