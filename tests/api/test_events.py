"""POST /v1/events: any other event, with or without history, and CloudEvents as an input form."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of, unique

CLOUD = {"Content-Type": "application/cloudevents+json"}


def publish(client: httpx.Client, user: User, **fields: Any) -> dict[str, Any]:
    body = {"to": [user.channel], "type": "order.paid", **fields}
    response = client.post("/v1/events", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def cloud_event(user: User, **fields: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": unique("ce"),
        "source": "/shop",
        "type": "order.paid",
        "to": user.channel,
        "data": {"order": 7},
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


@pytest.mark.parametrize("data", [{}, {"order": 7}, [1, 2], "text", "a\nb", 1.5, True, None, {"a": "\u2028\r\n"}])
def test_an_event_arrives_under_its_own_name_with_any_json(publisher: httpx.Client, user: User, data: Any) -> None:
    with user.listen() as stream:
        stream.next("hello")
        answer = publish(publisher, user, data=data)
        event = stream.next("order.paid")
    assert data_of(event) == data
    assert event.id == answer["cursor"]


def test_an_event_has_a_place_in_history_and_none_in_the_inbox(publisher: httpx.Client, user: User) -> None:
    start = user.inbox()["cursor"]
    answer = publish(publisher, user, data={"order": 7})
    assert user.inbox() == {"messages": [], "more": False, "unread": 0, "cursor": answer["cursor"]}
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 1
        event = stream.next("order.paid")
    assert (event.id, data_of(event)) == (answer["cursor"], {"order": 7})


def test_an_event_that_is_not_durable_skips_history_and_has_no_id(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        start = stream.next("hello").id
        publish(publisher, user, durable=False)
        event = stream.next("order.paid")
        assert event.id == start  # that of hello: the parser keeps the last id
        assert user.inbox()["cursor"] == start
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 0
        last = publish(publisher, user, data="last")
        assert stream.next("order.paid").id == last["cursor"]


@ONE_BROKER
@pytest.mark.parametrize("name", ["a", "order.paid", "x-y_z.9", "a" * 64])
def test_any_name_of_the_allowed_form_is_accepted(publisher: httpx.Client, user: User, name: str) -> None:
    with user.listen() as stream:
        stream.next("hello")
        publish(publisher, user, type=name)
        stream.next(name)


# CloudEvents


def test_a_cloud_event_is_published_with_its_type_and_data(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        event = cloud_event(user, time="2026-01-31T12:00:00Z", datacontenttype="application/json", subject="7")
        response = publisher.post("/v1/events", json=event, headers=CLOUD)
        assert response.status_code == 200, response.text
        event = stream.next("order.paid")
    assert data_of(event) == {"order": 7}
    assert event.id == response.json()["cursor"]


def test_a_cloud_event_goes_to_several_recipients(publisher: httpx.Client, user: User) -> None:
    event = cloud_event(user, to=f"group:{unique('group')}, {user.channel}")
    with user.listen() as stream:
        stream.next("hello")
        assert publisher.post("/v1/events", json=event, headers=CLOUD).status_code == 200
        stream.next("order.paid")


@ONE_BROKER
def test_a_cloud_event_may_have_a_charset_in_its_content_type(publisher: httpx.Client, user: User) -> None:
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    assert publisher.post("/v1/events", json=cloud_event(user), headers=headers).status_code == 200


def test_a_repeated_cloud_event_is_one_event(publisher: httpx.Client, user: User) -> None:
    event = cloud_event(user)
    first = publisher.post("/v1/events", json=event, headers=CLOUD).json()
    with user.sees_no_change():
        assert publisher.post("/v1/events", json=event, headers=CLOUD).json() == first
    other_source = {**event, "source": "/other"}
    assert publisher.post("/v1/events", json=other_source, headers=CLOUD).json()["cursor"] != first["cursor"]


@ONE_BROKER
@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"specversion": None}, "specversion"),
        ({"specversion": "0.3"}, "specversion"),
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"source": None}, "source"),
        ({"source": 7}, "source"),
        ({"type": None}, "type"),
        ({"type": "com.Example"}, "type"),
        ({"type": "message"}, "type"),
        ({"to": None}, "to"),
        ({"to": ""}, "to[0]"),
        ({"to": "nobody"}, "to[0]"),
        ({"data": None, "data_base64": "AAAA"}, "data_base64"),
        ({"durable": "no"}, "durable"),
    ],
)
def test_a_cloud_event_that_breaks_a_rule_is_refused_and_changes_nothing(
    publisher: httpx.Client, user: User, changed: dict[str, Any], field: str
) -> None:
    with user.sees_no_change():
        response = publisher.post("/v1/events", json=cloud_event(user, **changed), headers=CLOUD)
    problem_of(response, 422, field)


@ONE_BROKER
def test_a_body_that_is_no_object_is_not_a_cloud_event(publisher: httpx.Client) -> None:
    problem_of(publisher.post("/v1/events", json=[], headers=CLOUD), 400, "body")
