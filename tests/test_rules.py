"""The rules for values: what is accepted, what is refused, and that the error names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import json_text, rules
from notifier.errors import InvalidInput, MalformedBody, PayloadTooLarge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    """A list in a list, `levels` deep."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def refused(check: Callable[[], object]) -> str:
    """The field named by the error that `check` raises."""
    with pytest.raises(InvalidInput) as error:
        check()
    assert error.value.field is not None
    return error.value.field


# Names


@pytest.mark.parametrize("name", ["a", "a" * 128, "a b", "a:b", "{a}", "*", "?", "a/b", "..", "Ä", "中文", "😀", " "])
def test_a_name_of_1_to_128_printable_characters_is_accepted_unchanged(name: str) -> None:
    assert rules.name(name, "to") == name


@pytest.mark.parametrize(
    "name", ["", "a" * 129, "a\n", "a\r", "a\t", "\x00", "\x1f", "\x7f", "\x85", "\ud800", 42, None, b"a"]
)
def test_a_name_that_is_empty_too_long_or_has_control_characters_is_refused(name: object) -> None:
    assert refused(lambda: rules.name(name, "to[0]")) == "to[0]"


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128))
def test_names_are_kept_exactly(name: str) -> None:
    assert rules.channel(f"user:{name}") == f"user:{name}"


# Channels


@pytest.mark.parametrize("channel", ["user:42", "group:staff", "all", "user:a:b", "user:all", "group:user:1"])
def test_user_group_and_all_are_channels(channel: str) -> None:
    assert rules.channel(channel) == channel


@pytest.mark.parametrize(
    "channel", ["", "42", "user", "user:", "group:", "All", "ALL", "USER:42", "room:1", "all:1", 7]
)
def test_any_other_value_is_no_channel(channel: object) -> None:
    assert refused(lambda: rules.channel(channel, "to[0]")) == "to[0]"


def test_recipients_have_no_repeats_and_users_are_last() -> None:
    channels = rules.recipients(["user:2", "all", "user:1", "group:a", "user:2"])
    assert channels == ("all", "group:a", "user:2", "user:1")


@pytest.mark.parametrize(
    ("values", "field"),
    [([], "to"), ("user:1", "to"), (None, "to"), (7, "to"), (["user:1", "nobody"], "to[1]"), ([None], "to[0]")],
)
def test_no_recipients_or_recipients_that_are_no_list_are_refused(values: object, field: str) -> None:
    assert refused(lambda: rules.recipients(values)) == field


# Event names and ids


@pytest.mark.parametrize("name", ["a", "order.paid", "a-b_c.9", "a" * 64])
def test_an_event_name_starts_with_a_letter_and_has_at_most_64_characters(name: str) -> None:
    assert rules.event_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 65, "A", "1a", ".a", "a b", "a\n", "a\n\ndata: x", "ä", None, 1])
def test_a_malformed_event_name_is_refused(name: object) -> None:
    assert refused(lambda: rules.event_name(name)) == "type"


@pytest.mark.parametrize(
    "name", ["hello", "message", "task", "inbox", "reset", "degraded", "ping", "bye", "open", "error"]
)
def test_the_names_of_the_service_and_of_event_source_are_reserved(name: str) -> None:
    assert refused(lambda: rules.event_name(name)) == "type"


@pytest.mark.parametrize("identity", ["", "a" * 65, "a b", "a/b", "a:b", "*", "ä", "a\n", None, 5])
def test_an_id_of_other_characters_is_refused(identity: object) -> None:
    assert refused(lambda: rules.identifier(identity)) == "id"


# Texts, numbers, levels


@pytest.mark.parametrize("text", ["", "a\nb\tc", "\u2028", "\x7f", "😀", "\ufeff", "\ufffe"])
def test_text_may_have_any_character_of_utf_8(text: str) -> None:
    assert rules.text(text, "text") == text


@pytest.mark.parametrize("text", ["\x00", "a\ud800", "\udfff", 1, None, ["a"]])
def test_text_that_utf_8_cannot_encode_or_with_nul_is_refused(text: object) -> None:
    assert refused(lambda: rules.text(text, "text")) == "text"


def test_a_text_over_its_limit_is_refused() -> None:
    assert rules.text("a" * 255, "subject", max_chars=255)
    assert refused(lambda: rules.text("a" * 256, "subject", max_chars=255)) == "subject"


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_a_text_that_must_not_be_empty_needs_more_than_space(text: str) -> None:
    assert refused(lambda: rules.text(text, "subject", empty=False)) == "subject"


@pytest.mark.parametrize("number", [0, 1, 2**53 - 1])
def test_whole_numbers_go_up_to_the_largest_that_javascript_represents_exactly(number: int) -> None:
    assert rules.whole(number, "done") == number


@pytest.mark.parametrize("number", [-1, 2**53, 1.0, "1", True, None])
def test_a_value_that_is_no_whole_number_from_0_is_refused(number: object) -> None:
    assert refused(lambda: rules.whole(number, "done")) == "done"


@pytest.mark.parametrize("level", ["debug", "info", "success", "warning", "error"])
def test_there_are_five_levels(level: str) -> None:
    assert rules.level(level) == level


@pytest.mark.parametrize("level", ["", "INFO", "fatal", None, 3, ["info"]])
def test_an_unknown_level_is_refused(level: object) -> None:
    assert refused(lambda: rules.level(level)) == "level"


# Links


@pytest.mark.parametrize("url", [None, "/a", "a", "?q", "#f", "../a:b", "//host/a", "https://x.org/a b", "HTTP://x"])
def test_links_are_http_https_or_relative(url: str | None) -> None:
    assert rules.url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "",
        " ",
        "/a" * 1025,
        "/\ud800",
        7,
    ],
)
def test_links_that_a_browser_could_run_are_refused(url: object) -> None:
    assert refused(lambda: rules.url(url)) == "url"


# Icons


@pytest.mark.parametrize("icon", [None, *rules.ICONS, "/icons/truck.svg", "truck.svg", "https://x.org/a.png"])
def test_an_icon_is_a_name_of_the_list_or_a_url(icon: str | None) -> None:
    assert rules.icon(icon) == icon


@pytest.mark.parametrize("icon", ["", "truck", "Bell", "javascript:alert(1)", "data:image/png;base64,AA", 7, ["bell"]])
def test_another_icon_is_refused(icon: object) -> None:
    assert refused(lambda: rules.icon(icon)) == "icon"


def test_actions_are_links_and_calls_to_the_site() -> None:
    call = {"text": "Approve", "url": "/orders/7/approve/", "method": "POST"}
    assert rules.actions(None) is rules.actions([]) is None
    assert rules.actions([{"text": "Show", "url": "https://x.org/7"}, call]) == [
        {"text": "Show", "url": "https://x.org/7", "method": "GET"},
        call,
    ]


@pytest.mark.parametrize(
    ("actions", "field"),
    [
        ("Show", "actions"),
        ([{"text": "Show", "url": "/"}] * 4, "actions"),
        (["Show"], "actions[0]"),
        ([{"text": "Show"}], "actions[0].url"),
        ([{"url": "/"}], "actions[0].text"),
        ([{"text": "", "url": "/"}], "actions[0].text"),
        ([{"text": "x" * 41, "url": "/"}], "actions[0].text"),
        ([{"text": "Show", "url": "javascript:alert(1)"}], "actions[0].url"),
        ([{"text": "Show", "url": "/"}, {"text": "Show", "url": "/", "method": "PUT"}], "actions[1].method"),
        ([{"text": "Show", "url": "/", "body": {}}], "actions[0].body"),
        *(
            ([{"text": "Buy", "url": url, "method": "POST"}], "actions[0].url")
            for url in ("https://x.org/", "//x.org/", "/\\x.org/", "\\\\x.org", "buy", "?buy")
        ),
    ],
)
def test_other_actions_are_refused(actions: object, field: str) -> None:
    assert refused(lambda: rules.actions(actions)) == field


def test_a_misspelt_icon_is_answered_with_the_list() -> None:
    with pytest.raises(InvalidInput, match=r"must be a URL or one of bell, calendar, .*, not 'truck'"):
        rules.icon("truck")


# Times


def test_a_moment_is_converted_to_utc() -> None:
    assert rules.moment("2026-01-31T15:00:00+03:00", "sent_at") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert rules.moment(datetime(2026, 1, 31, 15, tzinfo=timezone(timedelta(hours=3))), "sent_at").hour == 12


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "0001-01-01T00:00:00+23:00", 1769860800, None]
)
def test_a_moment_without_offset_or_malformed_is_refused(value: object) -> None:
    assert refused(lambda: rules.moment(value, "sent_at")) == "sent_at"


def test_times_are_shown_with_seconds_and_with_milliseconds_unless_they_are_0() -> None:
    assert rules.iso(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31T12:00:00Z"
    assert rules.iso_ms(1_769_860_800_123) == "2026-01-31T12:00:00.123Z"
    assert rules.iso_ms(None) is None


# JSON


@given(JSON)
def test_json_is_one_line_and_reads_back_unchanged(value: object) -> None:
    try:
        json_text.json_value(value, "data")
    except InvalidInput:
        return  # NUL, or nested too deep
    written = json_text.to_json(value)
    assert "\n" not in written
    assert "\r" not in written
    assert json_text.parse_json(written.encode()) == value


def test_json_passes_at_32_levels_and_fails_at_33() -> None:
    assert json_text.parse_json(json.dumps(nested(32))) == nested(32)
    assert refused(lambda: json_text.parse_json(json.dumps(nested(33)))) == "body"
    inside = {"data": {"a": nested(31)}}
    assert refused(lambda: json_text.parse_json(json.dumps(inside))) == "data"


def test_json_deeper_than_the_parser_allows_is_refused_without_a_crash() -> None:
    assert refused(lambda: json_text.parse_json("[" * 100_000 + "]" * 100_000)) == "body"


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"nothing", b"{'a':1}", b'{"a":1,}', b"\xff", b'{"a":"\xc3"}', b"NaN", b'{"a":-Infinity}']
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        json_text.parse_json(body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"text":"\\ud800"}', "text"),
        ('{"text":"\\u0000"}', "text"),
        ('{"data":{"a":["x","\\udfff"]}}', "data.a[1]"),
        ('{"\\ud800":1}', "body"),
        ('{"data":{"\\u0000":1}}', "data"),
        ('{"data":1e999}', "data"),
        ('{"to":["a"],"to":["b"]}', "to"),
        ('{"data":{"a":1,"a":2}}', "a"),
    ],
)
def test_the_error_for_a_value_inside_json_names_its_path(body: str, field: str) -> None:
    assert refused(lambda: json_text.parse_json(body)) == field


def test_an_object_of_foreign_types_cannot_be_written_as_json() -> None:
    assert refused(lambda: json_text.json_object({"a": {1, 2}})) == "data.a"
    assert refused(lambda: json_text.json_object({1: 2})) == "data"
    assert refused(lambda: json_text.json_object([])) == "data"


def test_the_error_for_too_much_data_names_the_largest_field() -> None:
    fields = {"subject": "s", "text": "ä" * 100}
    data = json_text.to_json(fields)
    assert json_text.bounded(data, fields, len(data.encode())) == data
    with pytest.raises(PayloadTooLarge) as error:
        json_text.bounded(data, fields, len(data.encode()) - 1)
    assert error.value.field == "text"


def test_an_offending_value_is_shown_short_and_printable() -> None:
    assert rules.shown("a\n\ud800") == r"'a\n\ud800'"
    assert len(rules.shown("x" * 1000)) == 60
