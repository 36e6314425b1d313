"""GET /v1/poll: a stream that ends at its first round: same cursor, replay, resets, limits and drain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from notifier.auth import topic_grant
from tests.api.conftest import HISTORY_SIZE, MAX_STREAMS_PER_USER, ONE_BROKER
from tests.api.support import User, calling, data_of, mark, problem_of, publish, unique
from tests.support import ADMIN_KEY, API_KEY, JWT_SECRET, RedisServer, Service, running, wait_for


def poll(user: User, after: str | None = None, wait_s: int = 0, grants: Sequence[str] = ()) -> dict[str, Any]:
    """One poll on a connection of its own: a client's other calls do not wait for it."""
    params: dict[str, Any] = {"wait_s": wait_s, "grant": grants} | ({} if after is None else {"after": after})
    with calling(user.service, user.token) as client:
        response = client.get("/v1/poll", params=params, timeout=30)
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture
def waiting() -> Iterator[Callable[..., Future[dict[str, Any]]]]:
    """Starts a poll that waits, and returns once the service has it."""
    with ThreadPoolExecutor() as pool:

        def start(user: User, after: str, wait_s: int = 20, grants: Sequence[str] = ()) -> Future[dict[str, Any]]:
            future = pool.submit(poll, user, after, wait_s, grants)
            with calling(user.service, ADMIN_KEY) as admin:
                path = f"/v1/users/{user.name}/presence"
                wait_for(lambda: future.done() or admin.get(path).json()["online"], what="the poll")
            return future

        yield start


def names(answer: dict[str, Any]) -> list[str]:
    return [event["event"] for event in answer["events"]]


def ids(answer: dict[str, Any]) -> list[str]:
    return [event["data"]["id"] for event in answer["events"] if event["event"] == "message"]


def test_without_a_cursor_it_answers_at_once_with_the_present_state(publisher: httpx.Client, user: User) -> None:
    publish(publisher, user)
    publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"})
    started = time.monotonic()
    answer = poll(user, wait_s=20)
    assert time.monotonic() - started < 5
    cursor = user.inbox()["cursor"]
    assert answer == {"cursor": cursor, "recovered": True, "events": [], "tasks": user.tasks(), "unread": 1}
    assert answer["tasks"][0]["name"] == "Import"


def test_an_event_ends_the_wait_with_its_id_and_the_state_after_it(
    publisher: httpx.Client, user: User, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    cursor = poll(user)["cursor"]
    future = waiting(user, cursor)
    sent = publish(publisher, user, text="a\u2028b")
    answer = future.result(10)
    (event,) = answer["events"]
    assert (event["event"], event["id"]) == ("message", sent["cursor"])
    assert (event["data"]["id"], event["data"]["text"]) == (sent["id"], "a\u2028b")
    assert (answer["cursor"], answer["recovered"], answer["unread"]) == (sent["cursor"], True, 1)


def test_events_without_id_end_the_wait(
    publisher: httpx.Client, user: User, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    cursor = poll(user)["cursor"]
    future = waiting(user, cursor)
    task = publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import", "total": 4}).json()
    del task["cancel_requested"]
    answer = future.result(10)
    assert answer["events"] == [{"id": None, "event": "task", "data": task}]
    assert (answer["cursor"], answer["tasks"]) == (cursor, [task])
    future = waiting(user, cursor)
    publish(publisher, user, type="order.paid", data={"n": 1}, durable=False)
    assert future.result(10)["events"] == [{"id": None, "event": "order.paid", "data": {"n": 1}}]


def test_a_change_of_the_read_state_ends_the_wait(
    publisher: httpx.Client, user: User, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    message = publish(publisher, user)["id"]
    future = waiting(user, poll(user)["cursor"])
    mark(user, message)
    answer = future.result(10)
    assert answer["events"] == [{"id": None, "event": "inbox", "data": {"read": [message], "deleted": [], "unread": 0}}]
    assert answer["unread"] == 0


def test_without_an_event_it_answers_after_wait_s_with_the_same_cursor(user: User) -> None:
    cursor = poll(user)["cursor"]
    started = time.monotonic()
    answer = poll(user, cursor, wait_s=1)
    assert 0.9 < time.monotonic() - started < 5
    assert answer == {"cursor": cursor, "recovered": True, "events": [], "tasks": [], "unread": 0}


def test_an_event_of_a_granted_topic_ends_the_wait_and_is_replayed(
    publisher: httpx.Client, user: User, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    first, second = unique("order"), unique("order")
    grants = [topic_grant(JWT_SECRET, user.name, [topic]) for topic in (first, second)]
    cursor = poll(user, grants=grants)["cursor"]
    future = waiting(user, cursor, grants=grants)
    ids = [publish(publisher, f"topic:{topic}", type="changed")["cursor"] for topic in (first, second)]
    answer = future.result(10)
    assert [event["id"] for event in answer["events"]] == ids[: len(answer["events"])] != []
    assert [event["id"] for event in poll(user, cursor, grants=grants)["events"]] == ids
    assert [event["id"] for event in poll(user, cursor, grants=grants[1:])["events"]] == ids[1:]
    assert poll(user, cursor)["events"] == []


def test_a_poll_with_a_grant_of_presence_waits_and_shows_no_user(
    publisher: httpx.Client, user: User, someone: Callable[..., User]
) -> None:
    watcher, topic = someone(), unique("order")
    grants = [topic_grant(JWT_SECRET, user.name, [topic], presence=True, name="Ann")]
    with watcher.listen(query=[("grant", topic_grant(JWT_SECRET, watcher.name, [topic], presence=True))]) as stream:
        stream.next("hello")
        assert data_of(stream.next("presence"))["count"] == 1
        cursor = poll(user, grants=grants)["cursor"]
        wait_for(lambda: poll(user, cursor, wait_s=1, grants=grants)["events"] == [], what="a poll that waits")
        answer = publisher.get(f"/v1/topics/{topic}/presence").raise_for_status().json()
        assert [each["id"] for each in answer["users"]] == [watcher.name]


def test_a_poll_has_at_most_6_kib_of_grants(user: User) -> None:
    """As many as there is room for are heard; the contract of the query of streams."""
    room, grants = 6 * 1024, [topic_grant(JWT_SECRET, user.name, ["order:7"])]
    while len(grants) < 20 and sum(map(len, grants)) <= room:
        grants.append(topic_grant(JWT_SECRET, user.name, [f"{len(grants)}-{number:036}" for number in range(20)]))
    problem_of(user.client.get("/v1/poll", params={"wait_s": 0, "grant": grants}), 422, "grant")
    assert poll(user, grants=grants[:-1])["events"] == []


def test_polls_one_after_the_other_have_every_message_once(publisher: httpx.Client, user: User) -> None:
    """While a publisher sends, and also between polls and streams."""
    count = 60
    sent: list[str] = []

    def send_all() -> None:
        for i in range(count):
            answer = publish(publisher, user, subject=f"{i}")
            sent.append(answer["id"])

    cursor = poll(user)["cursor"]
    received: list[str] = []
    thread = threading.Thread(target=send_all)
    thread.start()
    turn = 0
    while len(received) < count:
        turn += 1
        if turn % 3:
            answer = poll(user, cursor, wait_s=5)
            assert answer["recovered"]
            received += ids(answer)
            cursor = answer["cursor"]
            continue
        with user.listen(after=cursor) as stream:
            assert stream.next("hello")
            event = stream.next("message")
            received.append(event.json()["id"])
            cursor = event.id
    thread.join()
    assert received == sent
    assert poll(user, cursor)["events"] == []


def test_a_long_replay_comes_in_several_polls(publisher: httpx.Client, user: User) -> None:
    cursor = poll(user)["cursor"]
    sent = [publish(publisher, user, text="x" * 7000)["id"] for _ in range(60)]
    received, polls = [], 0
    while len(received) < len(sent):
        answer = poll(user, cursor)
        received += ids(answer)
        cursor = answer["cursor"]
        polls += 1
        assert answer["events"]
    assert received == sent
    assert polls > 1


@pytest.mark.parametrize("after", ["nonsense", "000000000000-1", "0-0"])
def test_a_cursor_that_is_not_known_is_a_reset_at_once(publisher: httpx.Client, user: User, after: str) -> None:
    publish(publisher, user)
    with user.listen(after=after) as stream:
        stream.next("hello")
        reset = stream.next("reset")
    answer = poll(user, after, wait_s=20)
    assert answer["recovered"] is False
    assert answer["events"] == [{"id": reset.id, "event": "reset", "data": reset.json()}]
    assert (answer["cursor"], answer["unread"]) == (reset.id, 1)
    assert poll(user, answer["cursor"])["events"] == []


def test_a_trimmed_history_is_a_reset(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    cursor = poll(user)["cursor"]
    with calling(tight, API_KEY) as client:
        for _ in range(HISTORY_SIZE + 1):
            publish(client, user)
    (event,) = poll(user, cursor)["events"]
    assert (event["event"], event["data"]["reason"]) == ("reset", "history_trimmed")


def test_a_poll_too_many_is_answered_with_bye(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    cursor = poll(user)["cursor"]
    streams = [user.listen() for _ in range(MAX_STREAMS_PER_USER)]
    for stream in streams:
        stream.__enter__().next("hello")
    answer = poll(user, cursor, wait_s=20)
    (bye,) = answer["events"]
    assert (bye["event"], bye["data"]["reason"]) == ("bye", "evicted")
    assert bye["data"]["retry_ms"] >= 5000
    assert (answer["cursor"], answer["tasks"], answer["unread"]) == (cursor, None, None)
    for stream in streams:
        stream.close()
    wait_for(lambda: "bye" not in names(poll(user, cursor)), what="room for a poll")


def test_a_client_that_hangs_up_leaves_no_stream_behind(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    cursor = poll(user)["cursor"]
    for _ in range(MAX_STREAMS_PER_USER + 1):
        with calling(tight, user.token) as client, pytest.raises(httpx.ReadTimeout):
            client.get("/v1/poll", params={"after": cursor, "wait_s": 20}, timeout=0.5)
        wait_for(lambda: "bye" not in names(poll(user, cursor)), what="the end of the poll")


def test_it_ends_when_the_token_does(someone: Callable[..., User]) -> None:
    user = someone(expires_in_s=2)
    started = time.monotonic()
    (bye,) = poll(user, poll(user)["cursor"], wait_s=20)["events"]
    assert time.monotonic() - started < 10
    assert (bye["event"], bye["data"]["reason"]) == ("bye", "expired")


def test_disconnecting_the_user_ends_it(
    admin: httpx.Client, user: User, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    future = waiting(user, poll(user)["cursor"])
    assert admin.post(f"/v1/users/{user.name}/disconnect").status_code == 200
    assert future.result(10)["events"][0]["data"]["reason"] == "revoked"


def test_a_signal_ends_the_waiting_polls_with_their_cursor(
    user_of: Callable[..., User], waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    with running(Service()) as service:
        user = user_of(service)
        cursor = poll(user)["cursor"]
        future = waiting(user, cursor)
        started = time.monotonic()
        service.process.child.terminate()
        answer = future.result(10)
        assert time.monotonic() - started < 5
    (bye,) = answer["events"]
    assert (bye["event"], bye["data"]["reason"], answer["cursor"]) == ("bye", "drain", cursor)


@pytest.mark.programs
def test_while_redis_is_away_it_waits_and_then_says_so(user_of: Callable[..., User]) -> None:
    server = RedisServer(append_only=True)
    try:
        with running(Service(redis_url=server.url)) as service:
            user = user_of(service)
            cursor = poll(user)["cursor"]
            server.kill()
            with calling(service) as client:
                wait_for(lambda: client.get("/readyz").status_code == 503, what="the loss")
            started = time.monotonic()
            answer = poll(user, cursor)
            assert time.monotonic() - started > 4  # a client that polls again at once does no harm
            assert answer["events"] == [{"id": cursor, "event": "degraded", "data": {"degraded": True}}]
            assert (answer["cursor"], answer["tasks"], answer["unread"]) == (cursor, None, None)
            server.start()
            wait_for(lambda: poll(user, cursor)["tasks"] == [], what="the return")
    finally:
        server.stop()


@ONE_BROKER
@pytest.mark.parametrize("value", ["-1", "56", "1.5", "long", "100"])
def test_a_bad_wait_is_refused(user: User, value: str) -> None:
    problem_of(user.client.get("/v1/poll", params={"wait_s": value}), 422, "wait_s")


@ONE_BROKER
def test_a_token_is_read_from_header_or_cookie_and_not_from_the_query(anyone: httpx.Client, user: User) -> None:
    cookie = {"Cookie": f"notifier_token={user.token}"}
    assert anyone.get("/v1/poll", headers=cookie).status_code == 200
    problem_of(anyone.get("/v1/poll", params={"token": user.token}), 401)
