"""Django for the tests of the bridge: a real project and a database in a file, emptied after each test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest

FOLDER = tempfile.mkdtemp(prefix="notifier-django-")
os.environ["NOTIFIER_TEST_FOLDER"] = FOLDER
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.settings"
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402  # Django first
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.models import Model  # noqa: E402
from django.test import Client, override_settings  # noqa: E402

import django_bridge.outbox  # noqa: E402
import django_bridge.publisher  # noqa: E402
from django_bridge.models import MessageOutcome, MessageRecord, OutboxMessage, TaskRecord  # noqa: E402
from django_bridge.task import heartbeat  # noqa: E402
from django_bridge.testing import outbox  # noqa: E402
from tests.django.sample.models import SimpleModel  # noqa: E402
from tests.support import API_KEY, JWT_SECRET, RedisServer, Service, free_port, running  # noqa: E402
from tests.topologies import RedisCluster, SentinelGroup  # noqa: E402

if TYPE_CHECKING:
    from tests.django.site import Chromium, Site


def pytest_report_header() -> str:
    default = connections["default"]
    return f"databases: {default.vendor} {str(default.settings_dict['NAME']).removesuffix('_default')}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Since Python 3.13, SQLite warns of a connection that nothing closed. Threads of tests, and workers of queues that
    know nothing of Django, end with those that Django opened for them."""
    unclosed = pytest.mark.filterwarnings(
        "ignore:unclosed database:ResourceWarning",
        "ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning",
    )
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(unclosed)
    # Last, one after the other: a site and a browser that wait for other files' tests cost processor time. The first
    # of them waits for the start of both.
    items.sort(key=_is_in_browser)
    for item in filter(_is_in_browser, items):
        item.add_marker(pytest.mark.timeout(300))


def _is_in_browser(item: pytest.Item) -> bool:
    return "chromium" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def _databases() -> Iterator[None]:
    for alias in connections:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
    yield
    connections.close_all()
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(autouse=True)
def _clean(_databases: None) -> Iterator[None]:
    outbox.clear()
    _empty(OutboxMessage, MessageRecord, MessageOutcome)  # a thread of the test before may have written more
    yield
    _empty(TaskRecord, SimpleModel, Group, User, OutboxMessage, MessageRecord, MessageOutcome)
    django_bridge.publisher.current().breaker.succeeded()


def _empty(*models: type[Model]) -> None:
    for model in models:
        if model._default_manager.exists():  # costs a third of a delete
            model._default_manager.all().delete()


@pytest.fixture(autouse=True)
def _no_early_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count calls of this process. Processes they start keep the usual `FIRST_S`."""
    monkeypatch.setattr(heartbeat, "FIRST_S", 5.0)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann", first_name="Ann", last_name="Lee")


@pytest.fixture
def other_user() -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def boss(user: User) -> Client:
    """A client of the user, who may do everything in the admin."""
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def row() -> SimpleModel:
    return SimpleModel.objects.create(title="first")


@pytest.fixture
def rows() -> int:
    """The number of `SimpleModel` rows."""
    SimpleModel.objects.bulk_create(SimpleModel(title=f"row {n}") for n in range(20))
    return 20


@pytest.fixture
def outbox_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test is a new process for the outbox, on the transport `memory`."""
    monkeypatch.setattr(django_bridge.outbox, "_process", django_bridge.outbox._OutboxProcess())
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "OUTBOX": True}):
        yield


@pytest.fixture
def no_service() -> Iterator[dict[str, Any]]:
    """The project with an outbox, and an address at which no service listens."""
    value = http_settings(f"http://127.0.0.1:{free_port()}", TIMEOUT_S=0.1, OUTBOX=True, DELIVERY="inline")
    with override_settings(NOTIFIER=value):
        yield value


@pytest.fixture
def over_redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The project on the transport `redis`, with an empty Redis."""
    redis_server.client().flushall()
    with override_settings(NOTIFIER=redis_settings(redis_server)):
        yield redis_server


@pytest.fixture(scope="session")
def bridge_service() -> Iterator[Service]:
    """A service on its embedded broker, used only by tests of the bridge."""
    with running(Service()) as server:
        yield server


@pytest.fixture
def over_http(bridge_service: Service) -> Iterator[Service]:
    """The project on the transport `http`, with a real service."""
    with override_settings(NOTIFIER=http_settings(bridge_service.url)):
        yield bridge_service


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    from tests.django.site import Site  # Playwright's modules, only where a browser is used

    with running(Site()) as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    from tests.django.site import Chromium  # as above

    with running(Chromium()) as started:
        yield started


# One file uses these. As long as they stand, their 17 processes cost processor time.


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[RedisCluster]:
    with running(RedisCluster("redis")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def valkey_cluster() -> Iterator[RedisCluster]:
    with running(RedisCluster("valkey")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelGroup]:
    with running(SentinelGroup("redis")) as group:
        yield group


@pytest.fixture(scope="session")
def sharded_redis() -> Iterator[RedisServer]:
    """The Redis of `sharded_service`: no test empties it while the service runs."""
    with running(RedisServer()) as server:
        yield server


@pytest.fixture(scope="session")
def sharded_service(sharded_redis: RedisServer) -> Iterator[Service]:
    """A service on three shards, used only by tests of the bridge."""
    env = {"NOTIFIER_PREFIX": "bridge:", "NOTIFIER_SHARDS": "3"}
    with running(Service(redis_url=sharded_redis.url, env=env)) as service:
        yield service


@pytest.fixture(params=["http", "redis"])
def live(request: pytest.FixtureRequest) -> Iterator[Service]:
    """A real service; the project publishes to it over HTTP, or directly to its Redis (three shards)."""
    if request.param == "http":
        service: Service = request.getfixturevalue("bridge_service")
        with override_settings(NOTIFIER=http_settings(service.url)):
            yield service
        return
    server: RedisServer = request.getfixturevalue("sharded_redis")
    with override_settings(NOTIFIER=redis_settings(server, PREFIX="bridge:", SHARDS=3)):
        yield request.getfixturevalue("sharded_service")


def redis_settings(server: RedisServer, **more: Any) -> dict[str, Any]:
    return {"TRANSPORT": "redis", "REDIS_URL": server.url, "JWT_SECRET": JWT_SECRET, **more}


def http_settings(url: str, **more: Any) -> dict[str, Any]:
    """Settings of the transport `http`. A call has long to answer: the machine may be busy."""
    return {"TRANSPORT": "http", "URL": url, "API_KEY": API_KEY, "JWT_SECRET": JWT_SECRET, "TIMEOUT_S": 10, **more}
