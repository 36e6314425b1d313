"""Topics of open streams: by the token, by grants in the query, and added while the stream is open."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from notifier.auth import subscriber_token, topic_grant
from tests.api.conftest import ONE_BROKER
from tests.api.support import Listening, User, calling, data_of, problem_of, unique
from tests.support import API_KEY, JWT_SECRET


def grant(user: User, *topics: str, **claims: Any) -> str:
    return topic_grant(JWT_SECRET, user.name, topics, **claims)


def send(publisher: httpx.Client, topic: str, data: Any = None) -> str:
    body = {"to": [f"topic:{topic}"], "type": "changed", "data": data}
    cursor: str = publisher.post("/v1/events", json=body).raise_for_status().json()["cursor"]
    return cursor


def connection_of(stream: Listening) -> str:
    connection: str = data_of(stream.next("hello"))["connection"]
    return connection


def change(user: User, connection: str, **more: Any) -> httpx.Response:
    """On a connection of its own: another worker than the stream's may accept it. It has a second to ask that one, in
    which a process of a busy machine may stand still: the answer is a 503 then."""
    with calling(user.service, user.token) as client:
        while (answer := client.post("/v1/stream/topics", json={"connection": connection, **more})).status_code == 503:
            pass
        return answer


def test_a_stream_hears_the_topics_of_its_token(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    topic = unique("order")
    with someone(topics=[topic]).listen() as stream:
        stream.next("hello")
        send(publisher, unique("other"))
        cursor = send(publisher, topic, 1)
        event = stream.next("changed")
        assert (event.id, data_of(event)) == (cursor, 1)


def test_a_grant_in_the_query_is_heard_from_the_start_with_the_replay(publisher: httpx.Client, user: User) -> None:
    first, second = unique("order"), unique("order")
    after = send(publisher, first)
    missed = send(publisher, first, "missed")
    query = [("grant", grant(user, first)), ("grant", grant(user, second)), ("last_event_id", after)]
    with user.listen(query=query) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 1
        assert stream.next("changed").id == missed
        live = send(publisher, second, "live")
        assert stream.next("changed").id == live


def test_a_stream_without_a_grant_hears_nothing_of_a_topic(publisher: httpx.Client, user: User) -> None:
    topic = unique("order")
    with user.listen() as stream:
        stream.next("hello")
        for number in range(50):
            send(publisher, topic, number)
        publisher.post("/v1/events", json={"to": [user.channel], "type": "mine.own", "data": 1}).raise_for_status()
        assert stream.next().event == "mine.own"


def test_topics_are_added_to_an_open_stream_and_removed(publisher: httpx.Client, user: User) -> None:
    first, second = unique("order"), unique("order")
    with user.listen() as stream:
        connection = connection_of(stream)
        for _ in range(4):  # so that with two workers some calls reach the other one
            answer = change(user, connection, add=[grant(user, first, second)]).raise_for_status().json()
            assert (sorted(answer["topics"]), answer["stale"]) == (sorted((first, second)), [])
        assert stream_hears(publisher, stream, first)
        assert stream_hears(publisher, stream, second)
        for _ in range(4):
            answer = change(user, connection, remove=[first]).raise_for_status().json()
            assert answer["topics"] == [second]
        send(publisher, first, "removed")
        assert stream_hears(publisher, stream, second)


def stream_hears(publisher: httpx.Client, stream: Listening, topic: str) -> bool:
    cursor = send(publisher, topic)
    return stream.next("changed").id == cursor


def test_an_added_topic_with_newer_events_than_the_page_is_stale(publisher: httpx.Client, user: User) -> None:
    fresh, changed = unique("order"), unique("order")
    send(publisher, fresh)
    with calling(user.service, user.token) as client:
        since = client.get("/v1/cursor").raise_for_status().json()["cursor"]
    newest = send(publisher, changed)
    with user.listen() as stream:
        connection = connection_of(stream)
        add = [grant(user, fresh, changed)]
        answer = change(user, connection, add=add, since=since).raise_for_status().json()
        assert answer["stale"] == [changed]
        assert answer["cursor"].partition("-")[0] == newest.partition("-")[0]
        assert change(user, connection, add=add, since=answer["cursor"]).json()["stale"] == []
        assert change(user, connection, add=add).json()["stale"] == []
        for unknown in ("0-0", "?", "another-1"):
            assert sorted(change(user, connection, add=add, since=unknown).json()["stale"]) == sorted((fresh, changed))
        # Nothing of before is replayed.
        assert stream_hears(publisher, stream, fresh)


def test_a_topic_is_left_at_the_end_of_its_grant(publisher: httpx.Client, user: User) -> None:
    ending, staying = unique("order"), unique("order")
    with user.listen(query=[("grant", grant(user, ending, staying, ttl_s=6))]) as stream:
        connection = connection_of(stream)
        change(user, connection, add=[grant(user, staying, ttl_s=300)]).raise_for_status()
        assert data_of(stream.next("topics")) == {"left": [ending], "reason": "expired"}
        send(publisher, ending)
        assert stream_hears(publisher, stream, staying)


def test_an_expired_grant_in_the_query_is_not_heard_and_the_stream_stays(publisher: httpx.Client, user: User) -> None:
    ended, other = unique("order"), unique("order")
    with user.listen(query=[("grant", grant(user, ended, ttl_s=-1)), ("grant", grant(user, other))]) as stream:
        stream.next("hello")
        send(publisher, ended)
        assert data_of(stream.next("topics")) == {"left": [ended], "reason": "expired"}
        assert stream_hears(publisher, stream, other)


def bad_grants(user: User) -> dict[str, str]:
    return {
        "of another user": topic_grant(JWT_SECRET, "another", ["x"]),
        "forged": topic_grant("f" * 40, user.name, ["x"]),
        "a stream's token": subscriber_token(JWT_SECRET, user.name, topics=["x"]),
        "no token": "x",
    }


@ONE_BROKER
@pytest.mark.parametrize("kind", ["of another user", "forged", "a stream's token", "no token"])
def test_a_bad_grant_is_refused(user: User, kind: str) -> None:
    bad = bad_grants(user)[kind]
    with user.listen(query=[("grant", bad)]) as stream:
        stream.response.read()
        problem_of(stream.response, 403, "grant")
    with user.listen() as stream:
        problem_of(change(user, connection_of(stream), add=[bad]), 403, "grant")


@ONE_BROKER
def test_an_expired_grant_is_not_added(user: User) -> None:
    with user.listen() as stream:
        problem_of(change(user, connection_of(stream), add=[grant(user, "x", ttl_s=-1)]), 403, "grant")


@ONE_BROKER
def test_a_query_has_at_most_20_grants(user: User) -> None:
    for count, status in ((20, 200), (21, 422)):
        with user.listen(query=[("grant", grant(user, f"{number}")) for number in range(count)]) as stream:
            assert stream.response.status_code == status
    with user.listen(query=[("grant", grant(user, *(f"{number:0100}" for number in range(50))))]) as stream:
        assert stream.response.status_code == 422


@ONE_BROKER
def test_a_stream_hears_at_most_200_topics(user: User) -> None:
    with user.listen() as stream:
        connection = connection_of(stream)
        for part in range(4):
            names = [f"{part * 50 + number}" for number in range(50)]
            assert change(user, connection, add=[grant(user, *names)]).status_code == 200
        problem_of(change(user, connection, add=[grant(user, "200")]), 409)
        assert change(user, connection, remove=["7"], add=[grant(user, "200")]).status_code == 200


def test_a_connection_of_another_user_or_none_is_unknown(user: User, someone: Callable[..., User]) -> None:
    other = someone()
    with user.listen() as stream, other.listen() as others:
        connection = connection_of(stream)
        others.next("hello")
        for caller, asked in ((other, connection), (user, "x"), (user, connection[:-1])):
            started = time.monotonic()
            problem_of(change(caller, asked, add=[grant(caller, "x")]), 404, "connection")
            assert time.monotonic() - started < 5
    problem_of(change(user, connection), 404)


def test_the_cursor_is_that_of_the_last_event(publisher: httpx.Client, user: User) -> None:
    cursor = send(publisher, unique("order"))
    with calling(user.service, user.token) as client, calling(user.service, API_KEY) as trusted:
        answers = [client.get("/v1/cursor"), trusted.get("/v1/cursor"), trusted.get("/v1/cursor?user=7")]
    assert [int(answer.json()["cursor"].partition("-")[2]) >= int(cursor.partition("-")[2]) for answer in answers] == [
        True
    ] * 3
    with calling(user.service) as stranger:
        problem_of(stranger.get("/v1/cursor"), 401)


def test_a_grant_opens_a_task_of_its_topic_and_a_join_shows_the_running_ones(
    publisher: httpx.Client, user: User
) -> None:
    topic = unique("order")
    task = publisher.post("/v1/tasks", json={"to": [f"topic:{topic}"], "name": "Export"}).raise_for_status().json()
    path = f"/v1/tasks/{task['id']}"
    publisher.post(f"{path}/output", json={"text": "42 rows\n"}).raise_for_status()
    question = {"text": "Go on?", "choices": [{"value": "yes", "text": "Yes"}]}
    asked = publisher.post(f"{path}/question", json=question).raise_for_status().json()["question"]
    with user.listen() as stream:
        connection = connection_of(stream)
        change(user, connection, add=[grant(user, topic)]).raise_for_status()
        shown = data_of(stream.next("task"))
        assert (shown["id"], shown["status"]) == (task["id"], "waiting")
    granted = {"grant": grant(user, topic)}
    answer = {"question": asked["id"], "value": "yes"}
    for call in (path, f"{path}/output"):
        problem_of(user.client.get(call), 404, "id")
        problem_of(user.client.get(call, params={"grant": grant(user, unique("other"))}), 404, "id")
        assert user.client.get(call, params=granted).status_code == 200
    problem_of(user.client.post(f"{path}/answer", json=answer), 404, "id")
    user.client.post(f"{path}/answer", json=answer, params=granted).raise_for_status()
