"""Every test of the API runs against three services: in memory, over a file, and with two workers on Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from zlib import crc32

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.api.support import User, calling, unique
from tests.support import ADMIN_KEY, API_KEY, RedisServer, Service, running

ORIGIN = "https://shop.example"
MAX_STREAMS_PER_USER = 2
MAX_STREAMS_PER_ADDRESS = 6
HISTORY_SIZE = 3
PUBLISH_RATE = 20
SERVICES = {"api": ("embedded", "file", "redis"), "tight": ("embedded", "redis")}
"""The fixtures that start a service on each of these brokers."""
ONE_BROKER = pytest.mark.one_broker
"""For a test in which the broker plays no part: each case runs on one of the services, on the others as `full`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cases of a test marked `one_broker` take turns on the services: `make test` runs each once."""
    for item in items:
        if item.get_closest_marker("one_broker") and hasattr(item, "callspec"):
            for name, brokers in SERVICES.items():
                if broker := item.callspec.params.get(name):
                    case = item.name.replace(broker, "", 1)
                    if brokers[crc32(case.encode()) % len(brokers)] != broker:
                        item.add_marker("full")


@pytest.fixture(scope="session", params=SERVICES["api"])
def api(request: pytest.FixtureRequest) -> Service:
    """The service with its default settings."""
    service: Service = request.getfixturevalue(
        {"embedded": "service", "file": "file_service", "redis": "redis_service"}[request.param]
    )
    return service


@pytest.fixture(scope="session")
def signing_key() -> RSAPrivateKey:
    """The private key to the public key of the service `tight`."""
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def public_pem(signing_key: RSAPrivateKey) -> str:
    return signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="session", params=SERVICES["tight"])
def tight(request: pytest.FixtureRequest, public_pem: str) -> Iterator[Service]:
    """The service with narrow limits, a public key and an allowed origin. One worker: limits are per process."""
    redis_url = ""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        redis_url = server.url
    env = {
        "NOTIFIER_PREFIX": "tight:",
        "NOTIFIER_MAX_STREAMS_PER_USER": str(MAX_STREAMS_PER_USER),
        "NOTIFIER_MAX_STREAMS_PER_ADDRESS": str(MAX_STREAMS_PER_ADDRESS),
        "NOTIFIER_HISTORY_SIZE": str(HISTORY_SIZE),
        "NOTIFIER_HEARTBEAT_S": "0.2",
        "NOTIFIER_PUBLISH_RATE": str(PUBLISH_RATE),
        "NOTIFIER_METRICS": "false",
        "NOTIFIER_CORS_ORIGINS": ORIGIN,
        "NOTIFIER_JWT_PUBLIC_KEY": public_pem,
    }
    with running(Service(redis_url=redis_url, env=env)) as server:
        yield server


@pytest.fixture
def anyone(api: Service) -> Iterator[httpx.Client]:
    """A client without credentials."""
    with calling(api) as client:
        yield client


@pytest.fixture
def publisher(api: Service) -> Iterator[httpx.Client]:
    """A client that may publish."""
    with calling(api, API_KEY) as client:
        yield client


@pytest.fixture
def admin(api: Service) -> Iterator[httpx.Client]:
    """A client that may publish and administer."""
    with calling(api, ADMIN_KEY) as client:
        yield client


@pytest.fixture
def user_of() -> Iterator[Callable[..., User]]:
    """A factory of users of a given service, with a unique name unless one is given."""
    with contextlib.ExitStack() as stack:

        def make(service: Service, name: str | None = None, **claims: Any) -> User:
            user = User(service, name or unique(), **claims)
            stack.enter_context(user.client)
            return user

        yield make


@pytest.fixture
def someone(api: Service, user_of: Callable[..., User]) -> Callable[..., User]:
    """A factory of users of the service under test."""
    return partial(user_of, api)


@pytest.fixture
def user(someone: Callable[..., User]) -> User:
    """A new user without any events."""
    return someone()
