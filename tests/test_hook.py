"""Hooks as values: the entries of `NOTIFIER_HOOKS`, keys and signatures; and what alerts and posts become."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from notifier.api.http import validate
from notifier.errors import ConfigurationError, InvalidInput
from notifier.hook import Hook
from notifier.hooks import alerts, ntfy
from notifier.message import message_event
from notifier.settings import load

KEY = "hook-key-0123456789"


def test_an_entry_names_its_recipients_and_key() -> None:
    (hook,) = load(hooks=f"prometheus:alertmanager:group:ops|topic:a:b:{KEY}").hooks
    assert (hook.name, hook.kind, hook.to, hook.keys) == (
        "prometheus", "alertmanager", ("topic:a:b", "group:ops"), (KEY,),
    )  # fmt: skip
    assert KEY not in repr(hook)


def test_entries_of_one_name_are_one_hook_with_two_keys() -> None:
    (hook,) = load(hooks=f"a:ntfy:all:{KEY}, a:ntfy:all:{KEY}2").hooks
    assert [hook.has_key(key) for key in (KEY, f"{KEY}2", f"{KEY}3", "")] == [True, True, False, False]
    with pytest.raises(ConfigurationError, match="NOTIFIER_HOOKS: the entries named 'a' differ in more than their key"):
        load(hooks=f"a:ntfy:all:{KEY},a:ntfy:user:7:{KEY}2")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (f"a:ntfy:{KEY}", "a hook is 'name:kind:recipients:key'"),
        (f"a b:ntfy:all:{KEY}", "name: must be"),
        (f"{KEY}:pager:all:{KEY}", "kind: must be one of alertmanager, grafana, ntfy"),
        (f"a:ntfy:{KEY}:{KEY}", "recipients: each must be"),
        (f"a:ntfy::{KEY}", "recipients: each must be"),
        ("a:ntfy:" + "|".join(f"user:{i}" for i in range(21)) + f":{KEY}", "recipients: must be at most 20, not 21"),
        ("a:ntfy:all:short", "key: must have at least 16 characters, but one has 5"),
        (f"a:ntfy:all: {KEY}", "key: must be printable ASCII, without spaces at its edges, but one is not"),
        (f"a:ntfy:all:{KEY}\xe9", "key: must be printable ASCII"),
    ],
)
def test_a_wrong_entry_is_refused_by_the_name_of_its_part(entry: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(hooks=f"good:ntfy:all:{KEY},{entry}")
    assert str(error.value).startswith(f"NOTIFIER_HOOKS: entry 2: {words}")
    assert KEY not in str(error.value)
    assert "short" not in str(error.value)


def test_a_signature_covers_body_and_time() -> None:
    hook, body = Hook("a", "grafana", ("all",), ("other-key-0123456789", KEY)), b'{"a":1}'
    plain = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
    timed = hmac.new(KEY.encode(), b"1000:" + body, hashlib.sha256).hexdigest()
    assert hook.has_signed(body, plain, "", 1000)
    assert hook.has_signed(body, timed.upper(), "1000", 1300)
    assert not hook.has_signed(body + b" ", plain, "", 1000)
    assert not hook.has_signed(body, timed, "", 1000)
    assert not hook.has_signed(body, timed, "1001", 1000)
    assert not hook.has_signed(body, timed, "1000", 1301)
    assert not hook.has_signed(body, timed, "now", 1000)
    assert not hook.has_signed(body, "\xe4", "", 1000)


# Alerts


def alert(status: str = "firing", /, **labels: str) -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": "Disk", **labels}, "annotations": {}, "startsAt": "2026-01-01"}


def group(*members: dict[str, Any], **fields: Any) -> alerts.AlertGroup:
    status = "firing" if any(member["status"] == "firing" for member in members) else "resolved"
    body = {"status": status, "groupKey": "{}:{}", "alerts": list(members), **fields}
    return validate(alerts.AlertGroup, {"commonLabels": {"alertname": "Disk"}, **body})


def test_the_highest_level_of_those_that_fire_counts() -> None:
    members = (alert(severity="info"), alert(severity="page"), alert("resolved", severity="critical"))
    assert alerts.message(group(*members), "h")["level"] == "error"
    assert alerts.message(group(members[0], members[2]), "h")["level"] == "info"
    assert alerts.message(group(alert()), "h")["level"] == "warning"
    assert alerts.message(group(members[2]), "h")["level"] == "success"


def test_a_large_group_is_one_message_within_bounds() -> None:
    members = [alert("resolved" if i < 5 else "firing", host=f"h{i}", note="\u00e4\n" * 5000) for i in range(300)]
    fields = alerts.message(group(*members, truncatedAlerts=7, commonLabels={"alertname": "x" * 999}), "h")
    lines = fields["text"].split("\n")
    assert len(lines) == 11
    assert lines[0].startswith("Disk: host=h5, note=")
    assert lines[-1] == "and 297 more"
    assert fields["data"] == {"hook": "h", "status": "firing", "firing": 295, "resolved": 5}
    message_event({**fields, "to": ["all"]})


def test_a_link_that_breaks_a_rule_is_left_out() -> None:
    member = {**alert(), "generatorURL": "javascript:alert(1)", "silenceURL": "http://x/" + "y" * 3000}
    fields = alerts.message(group(member, externalURL="http://am:9093"), "h")
    assert fields["url"] == "http://am:9093"
    assert "actions" not in fields


def test_null_is_an_empty_map_and_missing_parts_are_named() -> None:
    assert alerts.message(group({**alert(), "annotations": None}, groupLabels=None), "h")["subject"] == "Disk"
    for body, field in (({"alerts": []}, "alerts"), ({"groupKey": 1}, "groupKey"), ({"alerts": [{}]}, "alerts[0]")):
        with pytest.raises(InvalidInput) as error:
            group(alert(), **body)
        assert str(error.value.field).startswith(field)


def test_a_repeat_has_the_same_digest_and_a_new_start_another() -> None:
    first, again = group(alert(host="a"), alert(host="b")), group(alert(host="b"), alert(host="a"))
    assert alerts.notification_digest(first) == alerts.notification_digest(again)
    later = group(alert(host="a"), {**alert(host="b"), "startsAt": "2026-01-02"})
    assert alerts.notification_digest(first) != alerts.notification_digest(later)


# Posts


def post(body: str = "", **headers: str) -> dict[str, Any]:
    raw = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return ntfy.message(ntfy.from_text(body.encode(), raw.get, {"p": "5"}.get), "h")


def test_headers_have_short_names_and_go_before_the_query() -> None:
    fields = post("Full", t="Disk", prio="high", ta="a, b", x_click="https://x/", sid="7")
    assert (fields["subject"], fields["text"], fields["level"], fields["url"]) == (
        "Disk", "Full", "warning", "https://x/",
    )  # fmt: skip
    assert fields["data"]["tags"] == ["a", "b"]
    assert fields["key"] == post(sequence_id="7")["key"] != post(sequence_id="8")["key"]
    assert post("Full")["level"] == "error"  # by the query


def test_a_post_without_a_title_has_its_first_line() -> None:
    assert (post("One\nTwo")["subject"], post("One\nTwo")["text"]) == ("One", "One\nTwo")
    assert (post("One")["subject"], post("One")["text"]) == ("One", "")
    assert post()["subject"] == "triggered"
    assert len(post("x" * 300)["subject"]) == 255
    assert post(m="a\\nb")["text"] == "a\nb"


def test_a_title_may_be_encoded_words() -> None:
    assert post("x", title="=?UTF-8?B?w6Q=?=")["subject"] == post("x", title="\u00e4")["subject"] == "\u00e4"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"priority": "9"}, "priority"),
        ({"click": "javascript:1"}, "click"),
        ({"icon": "data:1"}, "icon"),
        ({"in": "1h"}, "delay"),
        ({"tags": "a," * 21}, "tags"),
        ({"title": "=?nonsense?B?AAAA?="}, "title"),
    ],
)
def test_a_wrong_value_is_refused_by_name(headers: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        post("x", **headers)
    assert error.value.field == field
