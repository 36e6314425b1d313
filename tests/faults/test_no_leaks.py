"""What a user has no grant to is neither heard live, nor replayed, whatever the user presents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest

from notifier.auth import TOPICS
from tests.faults.conftest import Scale
from tests.faults.test_nothing_lost import roomy
from tests.stream_reader import StreamReader
from tests.support import JWT_SECRET, Service, running

SECRET_TOPIC = "order:7"
BATCH = 100


def grant(secret: str = JWT_SECRET, **claims: Any) -> str:
    body = {"sub": "bob", "aud": TOPICS, "exp": time.time() + 60, "topics": [SECRET_TOPIC]}
    return jwt.encode(body | claims, secret, algorithm="HS256")


def unfit_grants() -> dict[str, str]:
    names = ["", "order:7\n", "\x00", "n" * 200, 7, None, ["order:7"]]
    hostile = {f"the name {name!r}": grant(topics=[name]) for name in names}
    return hostile | {
        "another user's": grant(sub="ann"),
        "forged": grant("f" * 40),
        "expired": grant(exp=time.time() - 60),
        "for streams": grant(aud="notifier:stream"),
        "without a user": grant(sub=""),
        "51 topics": grant(topics=[f"order:{number}" for number in range(51)]),
        "no topics": grant(topics=[]),
        "a text": grant(topics=SECRET_TOPIC),
    }


def in_query(bob: httpx.Client, token: str) -> int:
    """The status of a stream that asks for a grant from its start."""
    with bob.stream("GET", "/v1/stream", params={"grant": token}) as answer:
        return answer.status_code


EVENTS = ("changed", "message", "task", "task.output", "presence", "inbox", "topics", "stale", "own.event")


def replay_of(service: Service, cursor: str) -> list[tuple[str, Any]]:
    """The events that a stream of Bob replays after a cursor; its query has an expired grant of the topic too."""
    expired = grant(exp=time.time() - 60)
    reader = StreamReader(service.url, "bob", query={"last_event_id": cursor, "grant": expired})
    try:
        hello = reader.next("hello", "reset")
        assert (hello[0], hello[1]["replayed"], hello[1]["tasks"]) == ("hello", 1, [])
        left = reader.next(*EVENTS)
        assert left == ("topics", {"left": [SECRET_TOPIC], "reason": "expired"})
        return [reader.next(*EVENTS)]
    finally:
        reader.close()


@pytest.fixture(scope="module", params=["memory", "redis"])
def service(request: pytest.FixtureRequest) -> Any:
    is_redis = request.param == "redis"
    url = request.getfixturevalue("redis_server").url if is_redis else ""
    env = roomy(NOTIFIER_SHARDS="3") if is_redis else roomy()
    with running(Service(redis_url=url, workers=2 if is_redis else 1, env=env)) as started:
        yield started


def show_everything(publisher: httpx.Client) -> None:
    """What others than events the topic may have: a message, a task with output, and a correction and retraction."""
    to = [f"topic:{SECRET_TOPIC}"]
    message = publisher.post("/v1/messages", json={"to": to, "subject": "secret"}).raise_for_status().json()["id"]
    task = publisher.post("/v1/tasks", json={"to": to, "name": "secret", "total": 2}).raise_for_status().json()["id"]
    publisher.post(f"/v1/tasks/{task}/output", json={"text": "secret"}).raise_for_status()
    publisher.patch(f"/v1/tasks/{task}", json={"done": 1}).raise_for_status()
    publisher.patch(f"/v1/messages/{message}", json={"to": to, "text": "secret"}).raise_for_status()
    publisher.request("DELETE", f"/v1/messages/{message}", json={"to": to}).raise_for_status()


def test_a_user_without_a_grant_sees_none_of_many_events(
    service: Service, scale: Scale, figure: Callable[..., None]
) -> None:
    events = scale.whole(300, 10_000)
    with service.client() as publisher, service.user("bob") as bob, service.user("ann") as ann:
        before = bob.get("/v1/cursor").raise_for_status().json()["cursor"]
        reader, others = StreamReader(service.url, "bob"), StreamReader(service.url, "ann")
        connection, of_ann = (each.next("hello")[1]["connection"] for each in (reader, others))
        own = {"connection": of_ann, "add": [grant(sub="ann", presence=True, name="Ann")]}
        ann.post("/v1/stream/topics", json=own).raise_for_status()
        unfit = unfit_grants()
        for kind, token in unfit.items():
            body = {"connection": connection, "add": [token]}
            assert bob.post("/v1/stream/topics", json=body).status_code in (403, 422), kind
            opened = in_query(bob, token)
            if kind == "expired":
                assert opened == 200  # without the topic
            else:
                assert opened in (403, 422), kind
        for name in (
            "*",
            "order:*",
            "order:",
            "../all",
            "topic:order:7",
            "ORDER:7",
            "order:7 x",
        ):  # names, and no patterns
            bob.post("/v1/stream/topics", json={"connection": connection, "add": [grant(topics=[name])]})
        # A good grant on the connection of another user, and the other user's whole call.
        assert bob.post("/v1/stream/topics", json={"connection": of_ann, "add": [grant()]}).status_code == 404
        assert bob.post("/v1/stream/topics", json=own).status_code == 403
        for begin in range(0, events, BATCH):
            items = [
                {"kind": "event", "to": [f"topic:{SECRET_TOPIC}"], "type": "changed", "data": begin + number}
                for number in range(BATCH)
            ]
            publisher.post("/v1/batch", json=items).raise_for_status()
        show_everything(publisher)
        # Ann gets each kind, so Bob's stream would have it by now, too.
        missing = {"changed", "message", "task", "task.output", "presence"}
        while missing:
            missing.discard(others.next(*EVENTS)[0])
        publisher.post("/v1/events", json={"to": ["user:bob"], "type": "own.event"}).raise_for_status()
        assert reader.next(*EVENTS)[0] == "own.event"
        replayed = replay_of(service, before)
        assert replayed == [("own.event", None)]
        assert bob.get("/v1/tasks").raise_for_status().json()["tasks"] == []
        assert bob.get(f"/v1/topics/{SECRET_TOPIC}/presence").status_code == 403
        for each in (reader, others):
            each.close()
    figure(events=events, refused=len(unfit) + 2, seen=0)
