"""Redis at a Unix socket, for all that connects to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_bridge import Message, publisher
from tests.commands import run
from tests.django.conftest import JWT_SECRET
from tests.support import Service, running
from tests.topologies import Node

pytestmark = [pytest.mark.programs, pytest.mark.slow]


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node("redis")
    node.options += ["--unixsocket", str(node.folder / "redis.sock")]
    with running(node):
        node.start()
        yield node


def test_service_bridge_and_check_broker_use_the_database_of_a_unix_socket(node: Node) -> None:
    url = f"unix://{node.folder}/redis.sock?db=1"
    with running(Service(redis_url=url)) as service:
        value = {"TRANSPORT": "redis", "REDIS_URL": url, "JWT_SECRET": JWT_SECRET, "TIMEOUT_S": 20.0}
        with override_settings(NOTIFIER=value):
            Message(to_users=1, subject="from the bridge").send()
            assert publisher.current().counts.failed == 0
        with service.client() as client:
            client.post("/v1/messages", json={"to": ["user:1"], "subject": "from the service"}).raise_for_status()
        with service.user("1") as client:
            subjects = [message["subject"] for message in client.get("/v1/inbox").json()["messages"]]
    assert subjects == ["from the service", "from the bridge"]
    assert list(node.call("INFO", "KEYSPACE")) == ["db1"]
    done = run("check-broker", url)
    assert f"{node.folder}/redis.sock role: primary" in done.stdout, done
