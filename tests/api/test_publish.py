"""POST /v1/messages: the response, the message that arrives, and that a repeat is not a second message."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, calling, data_of, problem_of, unique
from tests.support import ADMIN_KEY, API_KEY, JWT_SECRET, Service, bearer, wait_for

CURSOR = re.compile(r"[a-z0-9]+-[0-9]+")


def send(client: httpx.Client, *to: User | str, key: str | None = None, **fields: Any) -> httpx.Response:
    """Send a message, under an idempotency key if one is given."""
    body = {"to": [user.channel if isinstance(user, User) else user for user in to], "subject": "Test", **fields}
    return client.post("/v1/messages", json=body, headers={} if key is None else {"Idempotency-Key": key})


def sent(client: httpx.Client, *to: User | str, **fields: Any) -> dict[str, Any]:
    response = send(client, *to, **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def publisher_token(**claims: Any) -> str:
    body = {"aud": "notifier:publish", "exp": int(time.time()) + 60, **claims}
    return jwt.encode(body, JWT_SECRET, algorithm="HS256")


# The response and the message that arrives


def test_the_response_has_the_message_id_the_cursor_and_whether_a_stream_is_open(
    publisher: httpx.Client, user: User
) -> None:
    answer = sent(publisher, user)
    assert set(answer) == {"id", "cursor", "watched"}
    assert CURSOR.fullmatch(answer["cursor"])
    assert answer["watched"] is False
    assert user.inbox()["cursor"] == answer["cursor"]
    with user.listen() as stream:
        stream.next("hello")
        assert sent(publisher, user)["watched"] is True


@pytest.mark.parametrize("channel", ["group:staff", "all"])
def test_watched_counts_listeners_of_groups_and_all(
    publisher: httpx.Client, someone: Callable[..., User], channel: str
) -> None:
    with someone(groups=["staff"]).listen() as stream:
        stream.next("hello")
        body = {"to": [channel], "type": "test", "durable": False}
        assert publisher.post("/v1/events", json=body).json()["watched"] is True


def test_a_message_arrives_with_every_given_field(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        answer = sent(
            publisher,
            user,
            subject="Report ready",
            text="Line one\nline two \u2028 \U0001f600 </script>",
            level="success",
            url="/reports/7",
            data={"report": 7, "parts": [1.5, None, {"a": True}]},
            sent_at="2026-01-31T15:00:00+03:00",
            **{"from": {"id": "7", "name": "Ann"}},
        )
        event = stream.next("message")
    assert event.id == answer["cursor"]
    assert data_of(event) == {
        "id": answer["id"],
        "to": user.channel,
        "from": {"id": "7", "name": "Ann"},
        "subject": "Report ready",
        "text": "Line one\nline two \u2028 \U0001f600 </script>",
        "sent_at": "2026-01-31T12:00:00Z",
        "level": "success",
        "url": "/reports/7",
        "data": {"report": 7, "parts": [1.5, None, {"a": True}]},
    }


def test_a_message_sent_by_two_calls_under_one_id_arrives_once(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    user = someone(groups=[group])
    with user.listen() as stream:
        start = stream.next("hello").id
        message_id = unique("m")
        for to in (f"group:{group}", user.channel):
            sent(publisher, to, id=message_id)
        end = sent(publisher, user, subject="end")
        live = [data_of(event)["id"] for event in (stream.next("message"), stream.next("message"))]
    assert live == [message_id, end["id"]]
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 2
        replayed = [data_of(event)["id"] for event in (stream.next("message"), stream.next("message"))]
    assert replayed == live


def test_fields_left_out_have_the_defaults_of_the_contract(publisher: httpx.Client, user: User) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    sent(publisher, user)
    (message,) = user.messages()
    assert before <= datetime.fromisoformat(message.pop("sent_at")) <= datetime.now(UTC)
    assert {name: message[name] for name in ("from", "text", "level", "url", "data")} == {
        "from": None,
        "text": "",
        "level": "info",
        "url": None,
        "data": {},
    }


def test_nulls_stand_for_the_defaults_where_the_contract_allows_them(publisher: httpx.Client, user: User) -> None:
    sent(publisher, user, url=None, sent_at=None, expires_at=None, data={}, level="info")
    assert len(user.messages()) == 1


def test_the_publisher_may_set_a_message_s_id(publisher: httpx.Client, user: User) -> None:
    identity = unique("m")
    assert sent(publisher, user, id=identity)["id"] == identity
    assert [message["id"] for message in user.messages()] == [identity]


def test_one_message_to_several_has_one_id_and_names_each_recipient(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    ann, bob = someone(), someone()
    answer = sent(publisher, ann, bob)
    received = [user.messages()[0] for user in (ann, bob)]
    assert [message["id"] for message in received] == [answer["id"]] * 2
    assert [message["to"] for message in received] == [ann.channel, bob.channel]


def test_an_expired_message_is_neither_listed_nor_replayed(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        start = stream.next("hello").id
    for life_s in (
        0.5,
        8.0,
    ):  # the longer for a machine on which the message was over before it was accepted and listed
        soon = datetime.now(UTC) + timedelta(seconds=life_s)
        body = {"to": [user.channel], "subject": "brief", "expires_at": soon.isoformat()}
        answer = publisher.post("/v1/messages", json=body)
        if answer.status_code == 200 and [message["subject"] for message in user.messages()] == ["brief"]:
            break
        assert life_s == 0.5, answer.text
    wait_for(lambda: datetime.now(UTC) > soon)
    assert user.inbox()["messages"] == []
    assert user.unread() == 0
    sent(publisher, user, subject="lasting")
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["recovered"] is True
        assert data_of(stream.next("message"))["subject"] == "lasting"


# Authentication


@ONE_BROKER
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/tasks", "/v1/events", "/v1/batch"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        (bearer("unknown-key-0123456789abcdef"), "invalid_token"),
        (bearer(API_KEY[:-1]), "invalid_token"),
        ({"Authorization": f"Basic {API_KEY}"}, "invalid_request"),
        ({"Authorization": API_KEY}, "invalid_request"),
        ({"Cookie": f"notifier_token={API_KEY}"}, None),
        (bearer(publisher_token(exp=int(time.time()) - 60)), "invalid_token"),
        (bearer(publisher_token(aud="notifier:stream", sub="42")), "invalid_token"),
    ],
    ids=["nothing", "unknown key", "cut key", "Basic", "no Bearer", "cookie", "expired", "a subscriber's token"],
)
def test_without_valid_credentials_it_is_a_401_and_nothing_changes(
    anyone: httpx.Client, user: User, path: str, headers: dict[str, str], code: str | None
) -> None:
    body = {"to": [user.channel], "subject": "Test", "name": "Test", "type": "test"}
    with user.sees_no_change():
        response = anyone.post(path, json=body, headers=headers)
    problem_of(response, 401)
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert ("error=" in challenge) is (code is not None)
    assert code is None or f'error="{code}"' in challenge


@ONE_BROKER
def test_a_cookie_never_publishes_even_with_a_publishers_token(api: Service, anyone: httpx.Client, user: User) -> None:
    body = {"to": [user.channel], "subject": "Test"}
    headers = {"Cookie": f"notifier_token={publisher_token()}", "Origin": api.url}
    with user.sees_no_change():
        problem_of(anyone.post("/v1/messages", json=body, headers=headers), 401)


def test_a_token_for_publishing_publishes(api: Service, user: User) -> None:
    with calling(api, publisher_token(sub="shop")) as client:
        sent(client, user)
    assert len(user.messages()) == 1


@ONE_BROKER
def test_a_token_without_the_scope_gets_403_and_nothing_changes(api: Service, user: User) -> None:
    with calling(api, publisher_token(scope="admin")) as client, user.sees_no_change():
        response = send(client, user)
    problem_of(response, 403)
    assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


# Idempotency


def test_the_same_key_and_body_give_the_same_answer_and_one_event(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        key = unique("key")
        first = sent(publisher, user, key=key)
        assert [sent(publisher, user, key=key) for _ in range(3)] == [first] * 3
        sent(publisher, user, subject="after")
        assert [data_of(stream.next("message"))["subject"] for _ in range(2)] == ["Test", "after"]
    assert len(user.messages()) == 2


def test_a_key_used_concurrently_makes_one_event(api: Service, user: User) -> None:
    key = unique("key")

    def once(_: int) -> dict[str, Any]:
        with calling(api, API_KEY) as client:
            return sent(client, user, key=key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(once, range(16)))
    assert answers == [answers[0]] * 16
    assert len(user.messages()) == 1


def test_another_body_under_the_key_is_a_422_and_changes_nothing(publisher: httpx.Client, user: User) -> None:
    key = unique("key")
    sent(publisher, user, key=key)
    with user.sees_no_change():
        problem_of(send(publisher, user, key=key, subject="Other"), 422, "Idempotency-Key")


def test_a_repeat_may_write_the_same_body_in_another_way(publisher: httpx.Client, user: User) -> None:
    key = {"Idempotency-Key": unique("key")}
    forms = [
        f'{{"to":["{user.channel}"],"subject":"T\u00e9st","data":{{"a":1,"b":[2,3]}}}}',
        f'{{ "data": {{"b": [2, 3], "a": 1}},\n "subject": "T\\u00e9st", "to": ["{user.channel}"] }}',
    ]
    first, second = (publisher.post("/v1/messages", content=form.encode(), headers=key) for form in forms)
    assert first.status_code == 200
    assert second.json() == first.json()
    assert len(user.messages()) == 1
    for other in (forms[0].replace("[2,3]", "[3,2]"), forms[0].replace(":1", ":true"), forms[0].replace(":1", ':"1"')):
        problem_of(publisher.post("/v1/messages", content=other.encode(), headers=key), 422, "Idempotency-Key")


def test_the_key_belongs_to_one_call_and_not_to_another(publisher: httpx.Client, user: User) -> None:
    key = unique("key")
    sent(publisher, user, key=key)
    with user.sees_no_change():
        body = {"to": [user.channel], "name": "Test"}
        problem_of(publisher.post("/v1/tasks", json=body, headers={"Idempotency-Key": key}), 422, "Idempotency-Key")


@pytest.fixture
def publishers(api: Service) -> Iterator[list[httpx.Client]]:
    """Publishers whose names and keys give the same text when joined naively."""
    tokens = [publisher_token(sub=sub) for sub in ("shop", "shop:a", "shop:a:b", "a")]
    clients = [calling(api, credential) for credential in (API_KEY, ADMIN_KEY, *tokens)]
    yield clients
    for client in clients:
        client.close()


def test_two_publishers_may_use_the_same_key(publishers: list[httpx.Client], user: User) -> None:
    key = unique("key")
    answers = [sent(client, user, key=key) for client in publishers]
    assert len({answer["id"] for answer in answers}) == len(publishers)
    assert len(user.messages()) == len(publishers)


def test_a_publisher_and_a_key_are_never_confused_with_another_pair(api: Service, user: User) -> None:
    word = unique("key")
    pairs = [("shop", f"a:b:{word}"), ("shop:a", f"b:{word}"), ("shop:a:b", word)]
    for name, key in pairs:
        with calling(api, publisher_token(sub=name)) as client:
            sent(client, user, key=key)
    assert len(user.messages()) == len(pairs)


@ONE_BROKER
@pytest.mark.parametrize("key", ["", "k" * 256], ids=["empty", "256 characters"])
def test_a_key_out_of_its_bounds_is_refused(publisher: httpx.Client, user: User, key: str) -> None:
    with user.sees_no_change():
        problem_of(send(publisher, user, key=key), 422, "Idempotency-Key")


def test_a_refused_body_does_not_use_up_its_key(publisher: httpx.Client, user: User) -> None:
    key = unique("key")
    problem_of(send(publisher, user, key=key, subject=""), 422, "subject")
    sent(publisher, user, key=key)
    assert len(user.messages()) == 1
