"""GET /v1/stream: statuses, headers, authentication, cursors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

import httpx
import pytest

from tests.api.conftest import HISTORY_SIZE, ONE_BROKER
from tests.api.support import Listening, User, calling, data_of, ids_replayed, problem_of, publish, raw_stream, unique
from tests.support import API_KEY, Service, bearer, subscriber_token

CURSOR = re.compile(r"[a-z0-9]+-[0-9]+")
OTHER_EPOCH = "000000000000-1"


# The response


@ONE_BROKER
def test_the_headers_keep_proxies_and_caches_from_buffering_it(user: User) -> None:
    with user.listen() as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["Cache-Control"] == "no-store, no-transform"
        assert stream.response.headers["X-Accel-Buffering"] == "no"


@ONE_BROKER
def test_the_first_block_is_hello_with_a_random_retry(api: Service, user: User) -> None:
    retries = set()
    for _ in range(5):
        block = raw_stream(api, user, until=b"\n\n", act=lambda: None)
        match = re.fullmatch(
            rb"retry: ([0-9]+)\nid: [a-z0-9]+-[0-9]+\nevent: hello\ndata: \{\"v\":1,[^\n]*\}\n\n", block
        )
        assert match is not None, block
        retries.add(match.group(1))
    assert len(retries) > 1


def test_hello_has_every_field_of_the_contract(publisher: httpx.Client, user: User) -> None:
    publish(publisher, user)
    task = publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"}).json()
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with user.listen() as stream:
        event = stream.next("hello")
    hello = data_of(event)
    assert before <= datetime.fromisoformat(hello.pop("time")) <= datetime.now(UTC)
    assert hello.pop("tasks") == user.tasks()
    assert task["id"] == user.tasks()[0]["id"]
    assert len(hello.pop("connection")) == 32
    assert hello == {"v": 1, "recovered": True, "replayed": 0, "unread": 1, "heartbeat_s": 15}
    assert event.id == user.inbox()["cursor"]
    assert event.retry is not None


@ONE_BROKER
def test_head_responds_with_the_headers_and_the_connection_stays_usable(api: Service, user: User) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", api.port, timeout=10)) as connection:
        connection.request("HEAD", "/v1/stream", headers=bearer(user.token))
        head = connection.getresponse()
        assert (head.status, head.read()) == (200, b"")
        assert head.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b'{"status":"ok"}'


# Authentication


@ONE_BROKER
def test_a_token_is_read_from_header_cookie_or_query(api: Service, user: User) -> None:
    ways: list[tuple[dict[str, str], list[tuple[str, str]]]] = [
        (bearer(user.token), []),
        ({"Authorization": f"bearer  {user.token}"}, []),
        ({"Cookie": f"other=1; notifier_token={user.token}"}, []),
        ({}, [("token", user.token)]),
    ]
    for headers, query in ways:
        with Listening(api, headers, query) as stream:
            stream.next("hello")


@ONE_BROKER
def test_the_first_token_in_that_order_counts_and_the_others_are_ignored(api: Service, user: User) -> None:
    good, bad = user.token, subscriber_token(user.name, expires_in_s=-60)
    for header, cookie, query, status in (
        (good, bad, bad, 200),
        (bad, good, good, 401),
        (None, good, bad, 200),
        (None, bad, good, 401),
    ):
        headers = {"Cookie": f"notifier_token={cookie}"} | (bearer(header) if header else {})
        with Listening(api, headers, [("token", query)]) as stream:
            assert stream.response.status_code == status


@ONE_BROKER
def test_without_a_token_it_is_a_401_with_a_challenge(anyone: httpx.Client) -> None:
    for params in ({}, {"token": ""}):
        response = anyone.get("/v1/stream", params=params)
        problem_of(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="notifier"'


@ONE_BROKER
def test_an_api_key_does_not_listen(publisher: httpx.Client, anyone: httpx.Client) -> None:
    response = publisher.get("/v1/stream")
    problem_of(response, 401)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    problem_of(anyone.get("/v1/stream", params={"token": API_KEY}), 401)


def test_a_user_hears_itself_its_groups_and_all_and_nothing_else(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    own, other = unique("group"), unique("group")
    user = someone(groups=[own])
    with user.listen() as stream:
        stream.next("hello")
        for to in (f"group:{other}", someone(), f"user:{own}", f"group:{user.name}"):
            publish(publisher, to, type="not.mine")
        for to in (user, f"group:{own}", "all"):
            publish(publisher, to, type="own", data=to if isinstance(to, str) else "user")
        assert [data_of(stream.next("own")) for _ in range(3)] == ["user", f"group:{own}", "all"]


def test_a_message_over_several_channels_comes_once_live_and_replayed(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    groups = [unique("group"), unique("group")]
    user = someone(groups=groups)
    with user.listen() as stream:
        start = stream.next("hello").id
        publish(publisher, user, *(f"group:{group}" for group in groups), subject="once")
        publish(publisher, user, subject="after")
        assert [data_of(stream.next("message"))["subject"] for _ in range(2)] == ["once", "after"]
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 2
        assert [data_of(stream.next("message"))["subject"] for _ in range(2)] == ["once", "after"]
    assert [message["subject"] for message in user.messages()] == ["after", "once"]


# Cursors


@pytest.fixture
def missed(publisher: httpx.Client, user: User) -> tuple[str, list[str]]:
    """A cursor, and the ids of two messages after it."""
    with user.listen() as stream:
        start = stream.next("hello").id
    return start, [publish(publisher, user, subject=subject)["cursor"] for subject in ("one", "two")]


@ONE_BROKER
@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "lastEventID"])
def test_a_cursor_is_read_from_the_query_under_three_names(
    user: User, missed: tuple[str, list[str]], name: str
) -> None:
    start, ids = missed
    with user.listen(query=[(name, start)]) as stream:
        assert ids_replayed(stream, 2) == ids


@ONE_BROKER
def test_the_header_wins_over_the_query(user: User, missed: tuple[str, list[str]]) -> None:
    start, ids = missed
    with user.listen(after=ids[0], query=[("last_event_id", start)]) as stream:
        assert ids_replayed(stream, 1) == ids[1:]
    with user.listen(after=start, query=[("last_event_id", "nonsense")]) as stream:
        assert ids_replayed(stream, 2) == ids


@ONE_BROKER
def test_the_last_value_that_is_not_empty_counts(user: User, missed: tuple[str, list[str]]) -> None:
    start, ids = missed
    with user.listen(query=[("last_event_id", start), ("lastEventId", ids[0]), ("lastEventID", "")]) as stream:
        assert ids_replayed(stream, 1) == ids[1:]
    with user.listen(after="", query=[("last_event_id", start)]) as stream:
        assert ids_replayed(stream, 2) == ids


@ONE_BROKER
@pytest.mark.parametrize("query", [[], [("last_event_id", "")]])
def test_without_a_cursor_nothing_is_missing(
    user: User, missed: tuple[str, list[str]], query: list[tuple[str, str]]
) -> None:
    with user.listen(query=query) as stream:
        hello = stream.next("hello")
    assert (data_of(hello)["recovered"], data_of(hello)["replayed"]) == (True, 0)
    assert hello.id == missed[1][-1]


def test_a_replay_comes_in_order_and_goes_on_live_without_gap_or_repeat(
    publisher: httpx.Client, user: User, missed: tuple[str, list[str]]
) -> None:
    start, ids = missed
    with user.listen(after=start) as stream:
        hello = stream.next("hello")
        assert hello.id == start  # a client that disconnects now resumes from the same cursor
        assert [stream.next("message").id for _ in ids] == ids
        last = publish(publisher, user)["cursor"]
        assert stream.next("message").id == last
    with user.listen(after=last) as stream:
        assert ids_replayed(stream, 0) == []


@ONE_BROKER
@pytest.mark.parametrize(
    "cursor",
    ["nonsense", "0", "-", "abc-", "-5", "abc-def", "ABC-1", "a-1-2", "a-" + "9" * 40, "\xff\xfe", "x" * 3000, " - "],
)
def test_a_malformed_cursor_is_a_reset_and_never_an_error(publisher: httpx.Client, user: User, cursor: str) -> None:
    publish(publisher, user)
    task = publisher.post("/v1/tasks", json={"to": [user.channel], "name": "Import"}).json()
    with user.listen(query=[("last_event_id", cursor)]) as stream:
        hello, reset = stream.next("hello"), stream.next("reset")
        assert (data_of(hello)["recovered"], data_of(hello)["replayed"]) == (False, 0)
        assert set(data_of(reset)) == {"reason", "unread", "tasks"}
        assert data_of(reset)["reason"] == "cursor_unknown"
        assert data_of(reset)["unread"] == 1
        assert [shown["id"] for shown in data_of(reset)["tasks"]] == [task["id"]]
        assert reset.id == user.inbox()["cursor"]
        after = publish(publisher, user)["cursor"]
        assert stream.next("message").id == after
    # A client that disconnects between the two must not count as recovered.
    with user.listen(after=hello.id) as stream:
        assert data_of(stream.next("hello"))["recovered"] is False
        assert stream.next("reset").id == after


def test_a_cursor_of_another_epoch_is_a_reset(user: User) -> None:
    with user.listen(after=OTHER_EPOCH) as stream:
        assert data_of(stream.next("hello"))["recovered"] is False
        assert data_of(stream.next("reset"))["reason"] == "epoch_changed"


def test_a_cursor_from_the_future_is_a_reset(user: User) -> None:
    epoch, _, seq = str(user.inbox()["cursor"]).rpartition("-")
    with user.listen(after=f"{epoch}-{int(seq) + 1000}") as stream:
        assert data_of(stream.next("hello"))["recovered"] is False
        assert data_of(stream.next("reset"))["reason"] == "cursor_unknown"


def test_the_cursor_of_a_reset_is_valid(user: User) -> None:
    with user.listen(after=OTHER_EPOCH) as stream:
        cursor = stream.until("reset")[-1].id
    with user.listen(after=cursor) as stream:
        assert data_of(stream.next("hello"))["recovered"] is True


@pytest.mark.parametrize("beyond", [0, 1], ids=["all kept", "one trimmed away"])
def test_history_that_was_trimmed_away_is_a_reset(tight: Service, user_of: Callable[..., User], beyond: int) -> None:
    user = user_of(tight)
    start = user.inbox()["cursor"]
    with calling(tight, API_KEY) as client:
        ids = [publish(client, user)["cursor"] for _ in range(HISTORY_SIZE + beyond)]
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["recovered"] is not beyond
        if beyond:
            reset = stream.next("reset")
            assert (reset.id, data_of(reset)["reason"]) == (ids[-1], "history_trimmed")
            assert data_of(reset)["unread"] == HISTORY_SIZE
        else:
            assert [stream.next("message").id for _ in ids] == ids
