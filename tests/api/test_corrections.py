"""Messages that are replaced by their key, corrected, and retracted, as users see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of


def send(publisher: httpx.Client, user: User, subject: str, **more: Any) -> str:
    body = {"to": [user.channel], "subject": subject, **more}
    message_id: str = publisher.post("/v1/messages", json=body).raise_for_status().json()["id"]
    return message_id


def unread(user: User) -> int:
    count: int = user.client.get("/v1/inbox/unread").raise_for_status().json()["unread"]
    return count


def retract(publisher: httpx.Client, message_id: str, **body: Any) -> httpx.Response:
    return publisher.request("DELETE", f"/v1/messages/{message_id}", json=body)


def test_open_streams_learn_what_a_message_replaces(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        first, second = (send(publisher, user, subject, key="order 7") for subject in ("40 %", "80 %"))
        events = [data_of(stream.next("message")) for _ in range(2)]
        assert [(event["id"], event["key"]) for event in events] == [(first, "order 7"), (second, "order 7")]
        assert [event.get("replaces") for event in events] == [None, first]
    assert [message["id"] for message in user.client.get("/v1/inbox").json()["messages"]] == [second]
    assert unread(user) == 1


def test_a_correction_reaches_open_streams_and_stays(publisher: httpx.Client, user: User) -> None:
    message_id = send(publisher, user, "Paid", text="old", url="/orders/7/")
    with user.listen() as stream:
        start = stream.next("hello").id
        body = {"to": [user.channel], "text": "new", "url": None}
        for _ in range(2):  # a repeat changes nothing, and is announced to no stream
            answer = publisher.patch(f"/v1/messages/{message_id}", json=body).raise_for_status().json()
        send(publisher, user, "next")
        event = stream.next("message")
        assert (event.id, data_of(event)) == (start, answer)
        assert {name: answer[name] for name in ("id", "subject", "text", "url", "edited")} == {
            "id": message_id, "subject": "Paid", "text": "new", "url": None, "edited": True,
        }  # fmt: skip
        assert data_of(stream.next("message"))["subject"] == "next"
    listed = user.client.get("/v1/inbox").json()["messages"]
    assert [(message["subject"], message["text"]) for message in listed] == [("next", ""), ("Paid", "new")]
    assert unread(user) == 2


def test_a_retraction_reaches_every_open_stream_with_its_own_count(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    ann, bob = someone(), someone()
    body = {"to": [ann.channel, bob.channel], "subject": "Paid"}
    message_id = publisher.post("/v1/messages", json=body).raise_for_status().json()["id"]
    send(publisher, bob, "another")
    with ann.listen() as of_ann, bob.listen() as of_bob:
        assert [data_of(stream.next("hello"))["unread"] for stream in (of_ann, of_bob)] == [1, 2]
        for _ in range(2):
            assert retract(publisher, message_id, to=body["to"]).status_code == 204
        for stream, left in ((of_ann, 0), (of_bob, 1)):
            assert data_of(stream.next("inbox")) == {"read": [], "deleted": [message_id], "unread": left}
        send(publisher, ann, "next")
        assert data_of(of_ann.next("message"))["subject"] == "next"
    assert (unread(ann), unread(bob)) == (1, 1)
    assert [message["subject"] for message in ann.client.get("/v1/inbox").json()["messages"]] == ["next"]


@ONE_BROKER
@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"text": "new"}, 422, "to"),
        ({"to": ["user:nobody"], "text": "new"}, 404, "id"),
        ({"text": 7}, 422, "text"),
        ({"key": "another"}, 422, "key"),
        ({"expires_at": None}, 422, "expires_at"),
        ({"edited": False}, 422, "edited"),
        ({"text": "x" * 20_000}, 413, "text"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(
    publisher: httpx.Client, user: User, fields: dict[str, Any], status: int, field: str
) -> None:
    message_id = send(publisher, user, "Paid", text="old")
    body = fields if field == "to" else {"to": [user.channel], **fields}
    problem_of(publisher.patch(f"/v1/messages/{message_id}", json=body), status, field)
    assert user.client.get("/v1/inbox").json()["messages"][0]["text"] == "old"


@ONE_BROKER
def test_a_retraction_needs_channels_and_a_publisher(publisher: httpx.Client, user: User) -> None:
    problem_of(retract(publisher, "m1"), 422, "to")
    problem_of(retract(publisher, "not an id", to=["all"]), 422, "id")
    problem_of(retract(user.client, "m1", to=[user.channel]), 401)
    problem_of(user.client.patch("/v1/messages/m1", json={"to": [user.channel], "text": "x"}), 401)
