"""`except` and `except_connection` of a publish: who does not get it, live, by replay and in the inbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of, unique


def message(to: str, subject: str, **more: Any) -> dict[str, Any]:
    return {"to": [to], "subject": subject, **more}


def post(publisher: httpx.Client, body: dict[str, Any], kind: str = "messages") -> None:
    publisher.post(f"/v1/{kind}", json=body).raise_for_status()


def test_an_excluded_user_gets_a_message_in_no_way(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    to = f"group:{group}"
    with ann.listen() as of_ann, bob.listen() as of_bob:
        start = of_ann.next("hello").id
        of_bob.next("hello")
        post(publisher, message(to, "not for ann", **{"except": [ann.channel]}))
        post(publisher, message(to, "for all"))
        assert data_of(of_ann.next("message"))["subject"] == "for all"
        assert [data_of(of_bob.next("message"))["subject"] for _ in range(2)] == ["not for ann", "for all"]
    with ann.listen(query=[("last_event_id", start)]) as again:
        assert data_of(again.next("hello"))["replayed"] == 1
        assert data_of(again.next("message"))["subject"] == "for all"
    assert [each["subject"] for each in ann.client.get("/v1/inbox").json()["messages"]] == ["for all"]
    assert ann.client.get("/v1/inbox/unread").json() == {"unread": 1}
    assert bob.client.get("/v1/inbox/unread").json() == {"unread": 2}


@pytest.mark.parametrize("durable", [True, False])
def test_an_event_leaves_out_a_user_and_one_stream_of_another(
    publisher: httpx.Client, someone: Callable[..., User], durable: bool
) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    event = {"to": [f"group:{group}", "all"], "type": "changed", "durable": durable}
    with ann.listen() as of_ann, bob.listen() as here, bob.listen() as there:
        connection = data_of(here.next("hello"))["connection"]
        for stream in (of_ann, there):
            stream.next("hello")
        post(publisher, {**event, "data": 1, "except": [ann.channel], "except_connection": connection}, "events")
        post(publisher, {**event, "data": 2}, "events")
        assert data_of(of_ann.next("changed")) == 2
        assert data_of(here.next("changed")) == 2
        assert [data_of(there.next("changed")) for _ in range(2)] == [1, 2]


def test_a_batch_may_leave_out_users(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        items = [
            {"kind": "event", "to": ["all"], "type": "mine.own", "data": number, "except": excluded}
            for number, excluded in enumerate(([user.channel], []))
        ]
        results = publisher.post("/v1/batch", json=items).raise_for_status().json()["results"]
        assert [result["status"] for result in results] == [200, 200]
        assert data_of(stream.next("mine.own")) == 1


@ONE_BROKER
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"except": "user:7"}, "except"),
        ({"except": ["group:staff"]}, "except[0]"),
        ({"except": ["user:7", 7]}, "except[1]"),
        ({"except": [f"user:{number}" for number in range(51)]}, "except"),
        ({"except_connection": ""}, "except_connection"),
        ({"except_connection": 7}, "except_connection"),
    ],
)
def test_an_invalid_exclusion_is_refused(publisher: httpx.Client, given: dict[str, Any], field: str) -> None:
    problem_of(publisher.post("/v1/messages", json=message("all", "Hi", **given)), 422, field)
    problem_of(publisher.post("/v1/events", json={"to": ["all"], "type": "changed", **given}), 422, field)
