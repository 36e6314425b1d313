"""The frames of GET /v1/stream byte for byte, and what a stream leaves in the log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.support import Listening, User, calling, data_of, publish, raw_stream, unique
from tests.support import API_KEY, Service, bearer, subscriber_token


def test_a_message_on_the_wire(api: Service, publisher: httpx.Client, user: User) -> None:
    sent: dict[str, Any] = {}

    def send() -> None:
        fields = {
            "subject": "Тест",
            "text": "Loong\ntext",
            "from": {"id": "7", "name": "Ann"},
            "sent_at": "2026-01-31T12:00:00Z",
            "id": unique("m"),
        }
        sent.update(publish(publisher, user, **fields))

    received = raw_stream(api, user, until=b"event: message\n", act=send)
    assert received.partition(b"\n\n")[2].decode() == (
        f"id: {sent['cursor']}\nevent: message\n"
        f'data: {{"id":"{sent["id"]}","to":"{user.channel}","from":{{"id":"7","name":"Ann"}},"subject":"Тест",'
        '"text":"Loong\\ntext","sent_at":"2026-01-31T12:00:00Z","level":"info","url":null,"data":{}}\n\n'
    )


def test_a_replayed_message_is_the_same_bytes_as_a_live_one(api: Service, publisher: httpx.Client, user: User) -> None:
    start = user.inbox()["cursor"]
    live = raw_stream(api, user, until=b"event: message\n", act=lambda: publish(publisher, user, subject="Тест"))
    again = raw_stream(api, user, until=b"event: message\n", act=lambda: None, query=f"?last_event_id={start}")
    assert again.partition(b"\n\n")[2] == live.partition(b"\n\n")[2]


def test_a_task_on_the_wire_has_no_id(api: Service, publisher: httpx.Client, user: User) -> None:
    task: dict[str, Any] = {}

    def begin() -> None:
        body = {"to": [user.channel], "name": "Import", "state": "reading", "total": 100}
        task.update(publisher.post("/v1/tasks", json=body).json())

    received = raw_stream(api, user, until=b"event: task\n", act=begin)
    assert received.partition(b"\n\n")[2].decode() == (
        f'event: task\ndata: {{"id":"{task["id"]}","name":"Import","status":"running","state":"reading","done":0,'
        f'"total":100,"percent":0,"eta_s":null,"started_at":"{task["started_at"]}",'
        f'"updated_at":"{task["updated_at"]}","ended_at":null,"error":null,"url":null,"url_text":null,'
        f'"question":null,"answer":null,"output":null,"cancellable":true}}\n\n'
    )


def test_a_change_of_the_inbox_on_the_wire_has_no_id(api: Service, publisher: httpx.Client, user: User) -> None:
    identity = publish(publisher, user)["id"]
    received = raw_stream(api, user, until=b"event: inbox\n", act=lambda: user.client.delete(f"/v1/inbox/{identity}"))
    expected = f'event: inbox\ndata: {{"read":[],"deleted":["{identity}"],"unread":0}}\n\n'
    assert received.partition(b"\n\n")[2].decode() == expected


def test_an_event_on_the_wire_with_and_without_history(api: Service, publisher: httpx.Client, user: User) -> None:
    sent: dict[str, Any] = {}

    def send() -> None:
        publish(publisher, user, type="a.b", data="x\r\ny", durable=False)
        sent.update(publish(publisher, user, type="a.b", data={"ä": [1, 2.5]}))

    received = raw_stream(api, user, until=b"[1,2.5]", act=send)
    assert received.partition(b"\n\n")[2].decode() == (
        f'event: a.b\ndata: "x\\r\\ny"\n\nid: {sent["cursor"]}\nevent: a.b\ndata: {{"ä":[1,2.5]}}\n\n'
    )


def test_a_refusal_on_the_wire(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    with user.listen() as first, user.listen() as second, calling(tight, user.token) as client:
        first.next("hello")
        second.next("hello")
        body = client.get("/v1/stream").content
    match = re.fullmatch(rb'retry: ([0-9]+)\nevent: bye\ndata: \{"reason":"evicted","retry_ms":([0-9]+)\}\n\n', body)
    assert match is not None, body
    assert match.group(1) == match.group(2)


# The log


def test_no_token_and_no_key_is_logged(api: Service, user: User, publisher: httpx.Client) -> None:
    with Listening(api, {}, [("token", user.token)]) as stream:
        stream.next("hello")
    with calling(api) as anyone:
        anyone.get("/v1/stream", params={"token": user.token + "x"})
        anyone.get("/v1/inbox", headers=bearer(user.token + "x"))
        anyone.get(f"/v1/nothing?token={user.token}")
        anyone.post("/v1/messages", headers=bearer(API_KEY + "x"))
    publish(publisher, user)
    log = api.process.output()
    assert user.token not in log
    assert user.token.rpartition(".")[2] not in log
    if "do not use this in production" not in log:  # --dev prints its keys on purpose
        assert API_KEY not in log


TURBO = "<turbo-stream>\n</turbo-stream>"
HTML = "<li>Тест</li>\n<li>\u2028 two\r\nthree\rfour</li>\n"


@pytest.mark.parametrize("durable", [True, False])
def test_a_stream_of_texts_has_strings_as_lines_and_everything_else_as_always(
    api: Service, publisher: httpx.Client, user: User, durable: bool
) -> None:
    def send() -> None:
        for number, data in enumerate((HTML, "", {"text": "a\nb"}, ["<b>"], 7, None, TURBO)):
            body = {"to": [user.channel], "type": f"part.{number}", "data": data, "durable": durable}
            publisher.post("/v1/events", json=body).raise_for_status()
        publish(publisher, user, subject="<Тест", id="last")

    with Listening(api, bearer(user.token)) as other:
        assert other.next("hello")
        received = raw_stream(api, user, until=b"event: message\n", act=send, query="?format=text")
        assert data_of(other.next("part.0")) == HTML
    frames = [re.sub(r"^id: .*\n", "", frame) for frame in received.decode().split("\n\n")[1:9]]
    assert frames[:7] == [
        "event: part.0\ndata: <li>Тест</li>\ndata: <li>\u2028 two\ndata: three\ndata: four</li>\ndata: ",
        "event: part.1\ndata: ",
        'event: part.2\ndata: {"text":"a\\nb"}',
        'event: part.3\ndata: ["\\u003cb>"]',
        "event: part.4\ndata: 7",
        "event: part.5\ndata: null",
        "data: <turbo-stream>\ndata: </turbo-stream>",
    ]
    assert '"subject":"\\u003cТест"' in frames[7]


def test_a_stream_for_turbo_has_no_messages_live_or_replayed(api: Service, publisher: httpx.Client, user: User) -> None:
    start = user.inbox()["cursor"]
    publish(publisher, user, subject="Before")
    query = [("format", "turbo"), ("last_event_id", start)]
    with Listening(api, bearer(user.token), query) as stream:
        assert data_of(stream.next("hello"))["replayed"] == 1
        publish(publisher, user, subject="After")
        body = {"to": [user.channel], "type": "rows", "data": TURBO}
        publisher.post("/v1/events", json=body).raise_for_status()
        rows = stream.next("message")
    assert (rows.data, bool(rows.id)) == (TURBO, True)


def test_a_replay_has_the_same_texts(api: Service, publisher: httpx.Client, user: User) -> None:
    start = user.inbox()["cursor"]
    body = {"to": [user.channel], "type": "part", "data": HTML}
    publisher.post("/v1/events", json=body).raise_for_status()
    with Listening(api, bearer(user.token), [("format", "text"), ("last_event_id", start)]) as stream:
        assert stream.next("hello")
        part = stream.next("part")
    assert part.data == HTML.replace("\r\n", "\n").replace("\r", "\n")
    assert part.id


def test_a_round_writes_texts_to_streams_of_texts_only(api: Service, publisher: httpx.Client) -> None:
    """70 streams of one channel: a frame to them goes out in a round."""
    group = unique("group")
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(
                Listening(
                    api,
                    bearer(subscriber_token(unique(), groups=[group])),
                    [("format", "text")] if number % 7 == 0 else [],
                )
            )
            for number in range(70)
        ]
        for stream in streams:
            stream.next("hello")
        for text in ("one\ntwo", "three"):
            body = {"to": [f"group:{group}"], "type": "part", "data": text}
            publisher.post("/v1/events", json=body).raise_for_status()
        for number, stream in enumerate(streams):
            wanted = ["one\ntwo", "three"] if number % 7 == 0 else ['"one\\ntwo"', '"three"']
            assert [stream.next("part").data, stream.next("part").data] == wanted
