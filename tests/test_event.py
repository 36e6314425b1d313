"""Events and frames: their bytes, and the input that is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import event as events
from notifier.errors import InvalidInput, PayloadTooLarge
from notifier.event import Cursor
from notifier.message import message_event, message_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def message(**fields: Any) -> events.Event:
    options = {name: fields.pop(name) for name in ("may_repeat", "max_bytes") if name in fields}
    return message_event({"to": ["user:42"], "subject": "Test", "id": "m1", **fields}, now=NOW, **options)


def data_of(frame: str) -> Any:
    return json.loads(frame.split("\ndata: ", 1)[1].rstrip("\n"))


def test_a_message_is_framed_as_in_the_contract() -> None:
    event = message(text="Loong text", **{"from": {"id": "7", "name": "Ann"}})
    assert event.frame_for("user:42") == (
        'event: message\ndata: {"id":"m1","to":"user:42","from":{"id":"7","name":"Ann"},"subject":"Test",'
        '"text":"Loong text","sent_at":"2026-01-31T12:00:00Z","level":"info","url":null,"data":{}}\n\n'
    )


def test_each_recipient_s_frame_names_it_and_has_the_same_id() -> None:
    event = message(to=["user:1", "group:a", "all"])
    shown = [data_of(event.frame_for(channel)) for channel in event.to]
    assert [fields["to"] for fields in shown] == ["group:a", "all", "user:1"]
    assert {fields["id"] for fields in shown} == {event.message_id}


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_any_text_makes_one_frame_and_reads_back_unchanged(text: str) -> None:
    frame = message(text=text).frame_for("user:42")
    assert events.is_safe_frame(frame.encode())
    assert data_of(frame)["text"] == text


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    first, second = message(id=None), message(id=None)
    assert first.message_id != second.message_id


def test_a_key_always_gives_the_same_id_and_another_key_another_id() -> None:
    assert events.id_from_key("a") == events.id_from_key("a") != events.id_from_key("b")


def test_without_a_sender_the_system_is_the_sender() -> None:
    assert data_of(message().frame_for("user:42"))["from"] is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": []}, "to"),
        ({"to": ["room:1"]}, "to[0]"),
        ({"subject": ""}, "subject"),
        ({"subject": "s" * 256}, "subject"),
        ({"text": None}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"from": "Ann"}, "from"),
        ({"from": {}}, "from"),
        ({"from": {"id": "a\n"}}, "from.id"),
        ({"from": {"name": "n" * 256}}, "from.name"),
        ({"from": {"id": "1", "age": 3}}, "from.age"),
        ({"level": "fatal"}, "level"),
        ({"url": "javascript:1"}, "url"),
        ({"data": []}, "data"),
        ({"data": {"a": float("nan")}}, "data.a"),
        ({"sent_at": "2026-01-31T12:00:00"}, "sent_at"),
        ({"expires_at": "2026-01-31T11:59:59Z"}, "expires_at"),
        ({"expires_at": NOW}, "expires_at"),
        ({"id": "a b"}, "id"),
    ],
)
def test_a_message_that_breaks_a_rule_is_refused_with_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        message(**fields)
    assert error.value.field == field


def test_an_event_over_its_limit_is_too_large_and_the_error_names_the_largest_field() -> None:
    with pytest.raises(PayloadTooLarge) as error:
        message(text="ä" * 9000, data={"a": "x" * 300})
    assert error.value.field == "text"
    assert message(text="a" * 9000)


def test_the_time_of_expiry_is_kept_in_milliseconds() -> None:
    assert message(expires_at=NOW + timedelta(seconds=1.5)).expires_at_ms == 1_769_860_801_500
    assert message().expires_at_ms == 0


def test_an_event_of_the_publishers_own_carries_any_json() -> None:
    event = events.custom(to=["all"], event_type="order.paid", data=[1, "Ä", None])
    assert event.frame_for("all") == 'event: order.paid\ndata: [1,"Ä",null]\n\n'
    assert event.message_id == ""


@pytest.mark.parametrize("name", ["message", "hello", "ping", "error", "Order", "a\nid: 1", ""])
def test_an_event_with_a_reserved_or_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as error:
        events.custom(to=["all"], event_type=name)
    assert error.value.field == "type"


def test_an_event_over_its_limit_is_too_large() -> None:
    with pytest.raises(PayloadTooLarge) as error:
        events.custom(to=["all"], event_type="a", data="x" * 17_000)
    assert error.value.field == "data"


# Cursors


def test_a_cursor_reads_back_as_it_was_written() -> None:
    cursor = Cursor(events.new_epoch(), 42)
    assert events.parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "42", "abc-", "-1", "abc-1-2", "ABC-1", "abc-x", "abc-1 ", "abc-" + "9" * 17, "٣-٣"]
)
def test_a_malformed_cursor_is_unknown(text: str) -> None:
    assert events.parse_cursor(text) is None


# Frames from outside


@pytest.mark.parametrize("frame", [b"event: task\ndata: {}\n\n", b"event: a.b-c_9\ndata: \xc3\xa4\n\n"])
def test_a_good_stored_frame_is_safe(frame: bytes) -> None:
    assert events.is_safe_frame(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"data: {}\n\n",
        b"event: task\ndata: {}\n",
        b"event: task\ndata: {}\n\n\n",
        b"event: task\ndata: {}\n\nevent: forged\ndata: {}\n\n",
        b"event: task\ndata: a\rb\n\n",
        b"event: task\ndata: a\x00b\n\n",
        b"event: task\ndata: \xff\n\n",
        b"event: task\ndata: \xed\xa0\x80\n\n",
        b"event: Task\ndata: {}\n\n",
        b"id: 7\nevent: task\ndata: {}\n\n",
        b"event: task\nretry: 1\ndata: {}\n\n",
    ],
)
def test_a_stored_frame_that_would_end_or_forge_events_is_not_safe(frame: bytes) -> None:
    assert not events.is_safe_frame(frame)


def test_a_frame_is_checked_from_where_the_announcement_ends() -> None:
    assert events.is_safe_frame(b"- 0 0 -\nevent: task\ndata: {}\n\n", 8)


@pytest.mark.parametrize(
    "stored", ["event: task\ndata: {}\n\n", "event: message\ndata: []\n\n", "event: message\ndata: {\n\n"]
)
def test_a_stored_frame_that_is_not_a_message_is_none(stored: str) -> None:
    assert message_of(stored) is None


def test_a_stored_message_is_read_back() -> None:
    stored = message_of(message().frame_for("user:42"))
    assert stored is not None
    assert stored["subject"] == "Test"


def test_a_frame_of_the_service_carries_its_cursor_if_it_has_one() -> None:
    assert events.own_frame("reset", {"unread": 1}, Cursor("e", 7)) == b'id: e-7\nevent: reset\ndata: {"unread":1}\n\n'
    assert events.own_frame("ping", {}) == events.PING
