"""Presence on a topic, over HTTP: who is seen, by whom, and what a call answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx

from notifier.auth import topic_grant
from notifier.people import MAX_SHOWN
from tests.api.conftest import ONE_BROKER
from tests.api.support import User, calling, data_of, problem_of, unique
from tests.api.test_topics import change
from tests.support import JWT_SECRET, wait_for


def seen_on(user: User, topic: str, name: str | None = None) -> str:
    claims = {"presence": True} | ({"name": name} if name else {})
    return topic_grant(JWT_SECRET, user.name, [topic], **claims)


def people(client: httpx.Client, topic: str, **query: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"/v1/topics/{topic}/presence", params=query).raise_for_status().json()
    return answer


def test_people_on_a_topic_see_each_other(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    ann, bob, topic = someone(), someone(), unique("order")
    with (
        ann.listen(query=[("grant", seen_on(ann, topic, "Ann"))]) as of_ann,
        bob.listen(query=[("grant", topic_grant(JWT_SECRET, bob.name, [topic]))]) as of_bob,
    ):
        of_ann.next("hello")
        connection = data_of(of_bob.next("hello"))["connection"]
        alone = {"id": ann.name, "name": "Ann", "state": "viewing"}
        assert data_of(of_ann.next("presence")) == {
            "topic": topic, "count": 1, "joined": [alone], "left": [], "changed": [],
        }  # fmt: skip
        change(bob, connection, add=[seen_on(bob, topic)], state={topic: "editing"}).raise_for_status()
        editor = {"id": bob.name, "name": None, "state": "editing"}
        wait_for(lambda: editor in data_of(of_ann.next("presence"))["joined"], what="bob")
        answer = people(publisher, topic)
        assert (answer["count"], sorted(each["id"] for each in answer["users"])) == (2, sorted((ann.name, bob.name)))
        assert people(bob.client, topic, grant=seen_on(bob, topic))["count"] == 2
        change(bob, connection, remove=[topic]).raise_for_status()
        wait_for(lambda: editor in data_of(of_ann.next("presence"))["left"], what="bob's end")
        assert people(publisher, topic) == {"count": 1, "users": [alone]}


def test_presence_is_for_those_who_may_hear_the_topic(user: User, someone: Callable[..., User]) -> None:
    topic = unique("order")
    path = f"/v1/topics/{topic}/presence"
    problem_of(user.client.get(path), 403, "grant")
    problem_of(user.client.get(path, params={"grant": seen_on(someone(), topic)}), 403, "grant")
    problem_of(user.client.get(path, params={"grant": seen_on(user, unique("other"))}), 403, "grant")
    problem_of(
        user.client.get(path, params={"grant": topic_grant(JWT_SECRET, user.name, [topic], ttl_s=-1)}), 403, "grant"
    )
    assert people(someone(topics=[topic]).client, topic) == {"count": 0, "users": []}
    with calling(user.service) as anyone:
        problem_of(anyone.get(path), 401)


@ONE_BROKER
def test_of_more_than_a_hundred_people_the_answer_has_a_hundred_and_events_have_the_number(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    topic = unique("order")
    with ExitStack() as stack:
        users = [someone() for _ in range(MAX_SHOWN + 1)]
        streams = [stack.enter_context(user.listen(query=[("grant", seen_on(user, topic))])) for user in users]
        streams[0].next("hello")
        wait_for(lambda: people(publisher, topic)["count"] == len(users), what="all people")
        shown = people(publisher, topic)["users"]
        assert len({person["id"] for person in shown} & {user.name for user in users}) == len(shown) == MAX_SHOWN
        nothing: dict[str, Any] = {"joined": [], "left": [], "changed": []}
        number = {"topic": topic, "count": len(users), **nothing}
        wait_for(lambda: data_of(streams[0].next("presence")) == number, what="the number")


def test_a_state_has_a_form(user: User) -> None:
    for state in ("", "Editing", "x" * 33, "a b"):
        body = {"connection": "0a", "state": {"order": state}}
        problem_of(user.client.post("/v1/stream/topics", json=body), 422, "state.order")


def test_publishers_ask_for_many_users_at_once(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    ann, bob = someone(), someone()
    with ann.listen() as stream:
        stream.next("hello")
        answer = publisher.post("/v1/presence", json={"users": [ann.name, bob.name]}).raise_for_status().json()
    users = answer["users"]
    assert {name: shown["online"] for name, shown in users.items()} == {ann.name: True, bob.name: False}
    assert users[ann.name]["last_seen_at"] is not None
    assert users[bob.name]["last_seen_at"] is None
    problem_of(publisher.post("/v1/presence", json={"users": [""]}), 422, "users[0]")
    problem_of(ann.client.post("/v1/presence", json={"users": []}), 401)
