"""Servers that tests share. Each is real; see `support`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator

import pytest

from tests import quick
from tests.support import FULL, RedisServer, Service, running, share_tls_context
from tests.topologies import RedisCluster, SentinelGroup


def pytest_configure() -> None:
    """A run in the background ignores Ctrl-C, and so would every program that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    share_tls_context()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make test` leaves out what is marked `full`: of a matrix whose cases share their code, it runs a share."""
    for item in items:
        quick.mark(item)
    left_out = [] if FULL else [item for item in items if item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish() -> None:
    """What a page shows may take its time: five seconds, Playwright's own bound, are short on a busy machine."""
    for name in ("playwright.sync_api", "playwright.async_api"):
        if name in sys.modules:
            sys.modules[name].expect.set_options(timeout=30_000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    with quick.guard(item):
        return (yield)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole run. Tests that stop or flush it start their own."""
    with running(RedisServer()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A Redis cluster for the whole run, for tests that leave it whole; the others start their own."""
    with running(RedisCluster("redis")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[RedisCluster]:
    """The same of Valkey 9."""
    with running(RedisCluster("valkey")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelGroup]:
    """A Redis primary with its replica and Sentinels for the whole run, for tests that leave it whole."""
    with running(SentinelGroup("redis")) as group:
        yield group


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service on its embedded broker, as `notifier serve` starts it."""
    with running(Service(dev=True)) as server:
        yield server


@pytest.fixture(scope="session")
def file_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service over an SQLite file."""
    url = f"sqlite://{tmp_path_factory.mktemp('file')}/notifier.db"
    with running(Service(dev=True, env={"NOTIFIER_BROKER_URL": url})) as server:
        yield server


@pytest.fixture(scope="session")
def redis_service(redis_server: RedisServer) -> Iterator[Service]:
    """The service with two workers on Redis."""
    with running(Service(redis_url=redis_server.url, workers=2)) as server:
        yield server
