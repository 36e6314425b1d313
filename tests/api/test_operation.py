"""Health, readiness, metrics, and the publish rate."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import jwt
import pytest

from tests.api.conftest import ONE_BROKER, PUBLISH_RATE
from tests.api.support import User, calling, problem_of, unique
from tests.support import JWT_SECRET, Service, wait_for

BURST = 2 * PUBLISH_RATE


def metrics_of(client: httpx.Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = [line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#")]
    series = r'(notifier|process)_[a-z_]+\{(worker="[01]"(,[a-z]+="[^"]+")*|state="[a-z]+")\}'
    assert all(re.fullmatch(series, name) for name, _, _ in samples)
    return {name: float(value) for name, _, value in samples}


STREAMS, OPENED = (f'notifier_{name}{{worker="0"}}' for name in ("streams", "streams_opened_total"))
"""Series of a service with one process."""


def test_the_process_is_healthy_and_ready(anyone: httpx.Client) -> None:
    assert anyone.get("/healthz").json() == {"status": "ok"}
    assert anyone.get("/readyz").json() == {"ready": True, "broker": "ok", "draining": False}


@ONE_BROKER
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/client/notifier.js"])
def test_health_and_metrics_require_no_token(anyone: httpx.Client, path: str) -> None:
    assert anyone.get(path).status_code == 200


def test_metrics_count_streams_while_they_are_open(service: Service, user_of: Callable[..., User]) -> None:
    with calling(service) as anyone:
        before = metrics_of(anyone)
        with user_of(service).listen() as stream:
            stream.next("hello")
            during = metrics_of(anyone)
            assert during[OPENED] == before[OPENED] + 1
            assert during[STREAMS] >= 1
        wait_for(lambda: metrics_of(anyone)[STREAMS] < during[STREAMS], what="the end")


def test_metrics_name_no_user_and_no_channel(anyone: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        assert user.name not in anyone.get("/metrics").text


@ONE_BROKER
def test_a_setting_disables_the_metrics(tight: Service) -> None:
    with calling(tight) as anyone:
        problem_of(anyone.get("/metrics"), 404)


# The publish rate


def own_publisher(service: Service) -> httpx.Client:
    """A publisher with a full bucket."""
    claims = {"aud": "notifier:publish", "sub": unique("shop"), "exp": int(time.time()) + 60}
    return calling(service, jwt.encode(claims, JWT_SECRET, algorithm="HS256"))


def test_over_the_publish_rate_it_is_a_429_with_the_time_to_retry(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    body = {"to": [user.channel], "subject": "Test"}
    with own_publisher(tight) as publisher, own_publisher(tight) as other:
        answers = [publisher.post("/v1/messages", json=body) for _ in range(BURST)]
        assert [answer.status_code for answer in answers] == [200] * BURST
        # A full bucket allows a batch that is larger, and then nothing for four seconds.
        batch = [{"kind": "message", **body}] * (3 * BURST)
        wait_for(lambda: publisher.post("/v1/batch", json=batch).status_code == 200)
        refused = publisher.post("/v1/messages", json=body)
        problem_of(refused, 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert re.fullmatch(r'"publish";r=0;t=[0-9]+', refused.headers["RateLimit"])
        assert refused.headers["RateLimit-Policy"] == f'"publish";q={BURST};w=2'
        assert other.post("/v1/messages", json=body).status_code == 200
        wait_for(lambda: publisher.post("/v1/messages", json=body).status_code == 200)


def test_a_publish_over_the_rate_changes_nothing(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    items = [{"kind": "event", "to": [user.channel], "type": "test", "durable": False}] * (6 * BURST)
    with own_publisher(tight) as publisher:
        assert publisher.post("/v1/batch", json=items).status_code == 200
        with user.sees_no_change():
            problem_of(publisher.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}), 429)
            problem_of(publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"}), 429)
            problem_of(publisher.post("/v1/events", json={"to": [user.channel], "type": "test"}), 429)
            problem_of(publisher.post("/v1/batch", json=[{"kind": "task", "to": [user.channel], "name": "I"}]), 429)
            problem_of(publisher.patch("/v1/tasks/t1", json={"done": 1}), 429)


def test_responses_show_how_much_of_the_rate_is_left(tight: Service, user_of: Callable[..., User]) -> None:
    body = {"to": [user_of(tight).channel], "subject": "Test"}
    with own_publisher(tight) as publisher:
        for left in (BURST - 1, BURST - 2):
            answer = publisher.post("/v1/messages", json=body)
            match = re.fullmatch(r'"publish";r=([0-9]+);t=([0-9]+)', answer.headers["RateLimit"])
            assert match is not None
            assert left <= int(match.group(1)) <= BURST - 1
