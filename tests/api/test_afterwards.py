"""Questions about the past: a user's connections, and what became of a message. What the user's client received is
known, and the verdict has to agree with it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from notifier.broker.afterwards import MAX_RECORDS
from tests.api.support import User, calling, complete, data_of, problem_of, unique
from tests.api.test_admin import path
from tests.support import wait_for


def send(admin: httpx.Client, *to: str, **fields: Any) -> str:
    answer = admin.post("/v1/messages", json={"to": list(to), "subject": "s", "text": "t", **fields})
    assert answer.status_code == 200, answer.text
    message_id: str = answer.json()["id"]
    return message_id


def traced(admin: httpx.Client, user: User, message_id: str, **query: Any) -> dict[str, Any]:
    query = {"user": user.name, **query}
    answer = complete(lambda: admin.get(f"/v1/messages/{message_id}/trace", params=query))
    assert answer.status_code == 200, answer.text
    trace: dict[str, Any] = answer.json()
    return trace


def connections(admin: httpx.Client, user: User) -> list[dict[str, Any]]:
    answer = complete(lambda: admin.get(path(user.name, "/connections")))
    listed: list[dict[str, Any]] = answer.json()["connections"]
    return listed


def until_closed(admin: httpx.Client, user: User, count: int = 1) -> None:
    def is_closed() -> bool:
        known = connections(admin, user)
        return len(known) >= count and all(each["closed_at"] for each in known)

    wait_for(is_closed, what="the end in the record")


def test_the_record_of_a_connection_has_its_cursors_and_its_end(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        start = stream.next("hello").id
        (record,) = connections(admin, user)
        assert (record["from"], record["to"], record["closed_at"], record["reset"]) == (None, start, None, None)
        send(admin, f"user:{user.name}")
        cursor = stream.next("message").id
        assert connections(admin, user)[0]["to"] == cursor
    until_closed(admin, user)
    (record,) = connections(admin, user)
    assert (record["to"], record["closed_why"], record["address"]) == (cursor, "closed", "127.0.0.1")
    assert record["process"].startswith(f"{socket.gethostname()[:64]}:")
    with user.listen(after=start) as stream:
        stream.next("hello")
        assert connections(admin, user)[0]["replayed"] == 1
    until_closed(admin, user, 2)
    assert record["opened_at"] <= record["closed_at"]
    assert "python-httpx" in record["user_agent"]
    assert admin.delete(path(user.name)).status_code == 204
    assert connections(admin, user) == []


def test_a_message_from_before_the_recorded_connections_is_not_said_to_wait(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        received = send(admin, f"user:{user.name}")
        cursor = stream.next("message").id
    for _ in range(MAX_RECORDS):
        with user.listen(after=cursor) as stream:
            stream.next("hello")
    wait_for(
        lambda: all(each["from"] for each in connections(admin, user)), what="records of the last connections alone"
    )
    trace = traced(admin, user, received)
    assert (trace["verdict"], trace["reason"], trace["connections"]) == ("written", "before_records", [])


def test_a_wrong_method_on_the_connections_deletes_no_user(admin: httpx.Client, user: User) -> None:
    assert admin.delete(path(user.name, "/connections")).status_code == 405


def test_a_publisher_may_not_ask(publisher: httpx.Client, user: User) -> None:
    problem_of(publisher.get(path(user.name, "/connections")), 403)
    problem_of(publisher.get("/v1/messages/m/trace", params={"user": user.name}), 403)


def test_a_message_that_a_stream_received_was_written(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
        sent = send(admin, f"user:{user.name}")
        received = stream.next("message")
        assert data_of(received)["id"] == sent
        trace = traced(admin, user, sent)
        assert (trace["verdict"], trace["reason"]) == ("written", "unconfirmed")
        assert trace["cursor"] == received.id
        assert trace["channels"] == [f"user:{user.name}"]
        assert trace["publisher"].startswith("key:")
        assert abs(datetime.fromisoformat(trace["accepted_at"]) - datetime.now(UTC)) < timedelta(seconds=60)
        assert [each["step"] for each in trace["connections"]] == ["written"]
    with user.listen(after=received.id) as stream:
        stream.next("hello")
        wait_for(lambda: traced(admin, user, sent)["reason"] == "acknowledged", what="the record of the first stream")


def test_a_message_to_a_user_who_was_offline_waits_and_is_then_replayed(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        start = stream.next("hello").id
    until_closed(admin, user)
    sent = send(admin, f"user:{user.name}")
    assert (traced(admin, user, sent)["verdict"], traced(admin, user, sent)["reason"]) == ("waiting", "offline")
    with user.listen(after=start) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 1
        assert data_of(stream.next("message"))["id"] == sent
        assert traced(admin, user, sent)["verdict"] == "replayed"


def test_a_page_without_a_cursor_has_the_message_in_its_inbox_only(admin: httpx.Client, user: User) -> None:
    sent = send(admin, f"user:{user.name}")
    with user.listen() as stream:
        stream.next("hello")
        trace = traced(admin, user, sent)
    assert (trace["verdict"], trace["reason"], trace["connections"]) == ("waiting", "in_inbox", [])


def test_a_reset_hides_what_came_before_it(admin: httpx.Client, user: User) -> None:
    sent = send(admin, f"user:{user.name}")
    with user.listen(after="unreadable") as stream:
        stream.next("hello")
        assert data_of(stream.next("reset"))["reason"] == "cursor_unknown"
        assert traced(admin, user, sent)["verdict"] == "missed_reset"
        assert connections(admin, user)[0]["reset"] == "cursor_unknown"


def test_an_expired_message_was_not_seen(admin: httpx.Client, user: User) -> None:
    for life_s in (1, 10):  # the longer for a machine on which the message was over before it was accepted
        ends = datetime.now(UTC) + timedelta(seconds=life_s)
        body = {"to": [f"user:{user.name}"], "subject": "s", "expires_at": ends.isoformat()}
        if (answer := admin.post("/v1/messages", json=body)).status_code == 200:
            break
    sent = answer.raise_for_status().json()["id"]
    wait_for(lambda: traced(admin, user, sent)["verdict"] == "expired", what="the expiry")


def test_a_message_that_leaves_the_user_out_is_excluded(admin: httpx.Client, someone: Callable[..., User]) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    with ann.listen() as of_ann, bob.listen() as of_bob:
        of_ann.next("hello"), of_bob.next("hello")
        sent = send(admin, f"group:{group}", **{"except": [f"user:{ann.name}"]})
        assert data_of(of_bob.next("message"))["id"] == sent
        assert traced(admin, ann, sent)["verdict"] == "excluded"
        assert traced(admin, bob, sent)["verdict"] == "written"


def test_a_message_to_a_group_of_others_is_not_for_the_user(admin: httpx.Client, user: User) -> None:
    group = f"group:{unique('group')}"
    sent = send(admin, group)
    assert traced(admin, user, sent, to=group)["verdict"] == "not_a_recipient"
    problem_of(admin.get(f"/v1/messages/{sent}/trace", params={"user": user.name}), 404)
    other = f"user:{unique()}"
    assert traced(admin, user, send(admin, other), to=other)["verdict"] == "not_a_recipient"


def test_a_group_that_was_joined_later_replays_the_message(admin: httpx.Client, someone: Callable[..., User]) -> None:
    name, group = unique(), unique("group")
    before = someone(name)
    with before.listen() as stream:
        start = stream.next("hello").id
        sent = send(admin, f"group:{group}")
        assert traced(admin, before, sent, to=f"group:{group}")["verdict"] == "not_a_recipient"
    after = someone(name, groups=[group])
    with after.listen(after=start) as stream:
        stream.next("hello")
        assert data_of(stream.next("message"))["id"] == sent
        assert traced(admin, after, sent)["verdict"] == "replayed"


def test_a_message_that_was_read_elsewhere_is_read(admin: httpx.Client, user: User) -> None:
    sent = send(admin, f"user:{user.name}")
    assert user.client.post("/v1/inbox/read", json={"ids": [sent]}).status_code == 200
    assert traced(admin, user, sent)["verdict"] == "read"


def test_a_message_that_was_retracted_or_replaced_is_no_longer_waiting(admin: httpx.Client, user: User) -> None:
    sent = send(admin, f"user:{user.name}", key="k")
    newer = send(admin, f"user:{user.name}", key="k")
    trace = traced(admin, user, sent)
    assert (trace["verdict"], trace["reason"], trace["channels"]) == ("expired", "replaced", [f"user:{user.name}"])
    assert None not in (trace["at"], trace["accepted_at"])
    assert admin.request("DELETE", f"/v1/messages/{newer}", json={"to": [f"user:{user.name}"]}).status_code < 300
    assert (traced(admin, user, newer)["verdict"], traced(admin, user, newer)["reason"]) == ("expired", "retracted")
    for to in ([], ["all"], ["group:nobody"], ["user:nobody"]):
        problem_of(admin.get("/v1/messages/unknown/trace", params={"user": user.name, "to": to}), 404)


def test_a_message_that_left_out_the_only_stream_is_excluded(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        connection = data_of(stream.next("hello"))["connection"]
        sent = send(admin, f"user:{user.name}", except_connection=connection)
        send(admin, f"user:{user.name}")
        assert data_of(stream.next("message"))["id"] != sent
        assert traced(admin, user, sent)["verdict"] == "excluded"


def test_a_page_that_gets_a_correction_has_the_message(admin: httpx.Client, user: User) -> None:
    sent = send(admin, f"user:{user.name}")
    with user.listen() as stream:
        stream.next("hello")
        assert traced(admin, user, sent)["reason"] == "in_inbox"
        change = {"to": [f"user:{user.name}"], "text": "new"}
        assert admin.patch(f"/v1/messages/{sent}", json=change).status_code == 200
        assert data_of(stream.next("message"))["edited"]
        assert (traced(admin, user, sent)["verdict"], traced(admin, user, sent)["reason"]) == ("written", "unconfirmed")


def test_a_poll_is_a_connection(admin: httpx.Client, user: User) -> None:
    first = user.client.get("/v1/poll").json()["cursor"]
    sent = send(admin, f"user:{user.name}")
    events = user.client.get("/v1/poll", params={"after": first}).json()["events"]
    assert [each["data"]["id"] for each in events if each["event"] == "message"] == [sent]
    until_closed(admin, user)
    trace = wait_for(lambda: _delivered(admin, user, sent), what="the record of the second poll")
    assert (trace["verdict"], trace["reason"]) == ("written", "unconfirmed")
    assert {each["closed_why"] for each in connections(admin, user)} == {"answered"}


def _delivered(admin: httpx.Client, user: User, message_id: str) -> dict[str, Any] | None:
    trace = traced(admin, user, message_id)
    return trace if trace["verdict"] in ("written", "replayed") else None


def test_polls_that_follow_each_other_are_one_record(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        stream.next("hello")
    until_closed(admin, user)
    cursor, sent, count = None, list[str](), 45
    for number in range(count):
        if number % 5 == 1:
            sent.append(send(admin, f"user:{user.name}"))
        query = {"wait_s": "0"} | ({} if cursor is None else {"after": cursor})
        with calling(user.service, user.token) as client:  # a connection of its own: of any worker
            cursor = client.get("/v1/poll", params=query).json()["cursor"]
    wait_for(lambda: connections(admin, user)[0]["polls"] == count, what="one record of all polls")
    polls, stream_record = connections(admin, user)
    assert (polls["from"], polls["to"], polls["replayed"], polls["reset"]) == (None, cursor, len(sent), None)
    assert (polls["closed_why"], polls["opened_at"] < polls["closed_at"]) == ("answered", True)
    assert (stream_record["polls"], stream_record["closed_why"]) == (0, "closed")
    for message_id in sent:
        trace = traced(admin, user, message_id)
        assert (trace["verdict"], trace["reason"]) == ("written", "acknowledged")
        assert [(each["step"], each["polls"]) for each in trace["connections"]] == [("written", count)], message_id


def test_the_user_agent_is_bounded_and_printable(admin: httpx.Client, user: User) -> None:
    user.client.headers["User-Agent"] = "a\tb" + "x" * 1000
    user.client.get("/v1/poll")
    agent = wait_for(lambda: connections(admin, user), what="the record of the poll")[0]["user_agent"]
    assert agent == ("a b" + "x" * 1000)[:200]
