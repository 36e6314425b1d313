"""Announcements say when a publish was accepted, in a form that earlier versions read as an exclusion of no user."""

from __future__ import annotations

import time

import pytest

from notifier import rules
from notifier.broker.redis.announcements import Topics
from notifier.broker.redis.notes import notes, notes_of
from notifier.errors import InvalidInput
from notifier.exclusion import Exclusion, exclusion_of
from notifier.json_text import to_json
from notifier.trace_context import MAX_STATE_CHARS, TracedTime, context_text, headers_of
from tests.broker.support import Recorder

EXCLUSIONS = [None, Exclusion(frozenset(("7", "Ann"))), Exclusion(frozenset(), "c1"), Exclusion(frozenset("7"), "c1")]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FRAME = b"event: x\ndata: {}\n\n"


def received(lead: str) -> Recorder:
    """What a sink gets of an announcement with this in place of key and notes."""
    recorder = Recorder()
    topics = Topics(recorder)
    topics.add(["all"])
    topics.receive(b"all", b"e 1 0 %b\nid: e-1\n%b" % (lead.encode(), FRAME))
    assert recorder.events == [("all", 1, b"id: e-1\n" + FRAME)]
    return recorder


@pytest.mark.parametrize("excluded", EXCLUSIONS)
async def test_what_is_noted_is_read(excluded: Exclusion | None) -> None:
    now_us = time.time_ns() // 1000
    assert notes_of(notes(excluded, now_us).encode()) == (excluded, now_us)
    if excluded is not None:
        assert notes(excluded, 0) == excluded.text()
    recorder = received(f"- {notes(excluded, now_us)}")
    assert recorder.accepted_us == [now_us]
    assert recorder.excluded == [excluded]


@pytest.mark.parametrize("excluded", EXCLUSIONS)
def test_an_earlier_version_reads_the_same_users_and_a_name_that_no_user_has(excluded: Exclusion | None) -> None:
    known = exclusion_of(notes(excluded, 1))
    users = excluded.users if excluded is not None else frozenset()
    assert known.connection == (excluded.connection if excluded is not None else "")
    (note,) = known.users - users
    with pytest.raises(InvalidInput):
        rules.name(note, "id")


@pytest.mark.parametrize(
    ("lead", "excluded"),
    [
        ("-", None),
        ('- [["7"],""]', Exclusion(frozenset("7"))),
        ('- [["7","\\n?newer"],""]', Exclusion(frozenset("7"))),
        ('- [["\\n@x"],""]', None),
        ('key [["\\n@"],"c"]', Exclusion(frozenset(), "c")),
        (f'- [["\\n_trace={PARENT}"],""]', None),
    ],
)
async def test_earlier_and_later_versions_are_read_without_a_time(lead: str, excluded: Exclusion | None) -> None:
    recorder = received(lead)
    assert recorder.accepted_us == [0]
    assert recorder.excluded == [excluded]


@pytest.mark.parametrize("excluded", EXCLUSIONS)
@pytest.mark.parametrize("state", ["", 'vendor=a"b,other=\\c'])
async def test_the_trace_that_is_noted_is_read(excluded: Exclusion | None, state: str) -> None:
    noted = notes(excluded, TracedTime(5, context_text(PARENT, state)))
    recorder = received(f"- {noted}")
    (accepted_us,) = recorder.accepted_us
    assert isinstance(accepted_us, TracedTime)
    headers = {"traceparent": PARENT, "tracestate": state} if state else {"traceparent": PARENT}
    assert (accepted_us, headers_of(accepted_us.context)) == (5, headers)
    assert recorder.excluded == [excluded]
    # An earlier version reads two names that no user has.
    earlier = exclusion_of(noted)
    assert len(earlier.users) == 2 + (len(excluded.users) if excluded is not None else 0)
    assert {name[0] for name in earlier.users - (excluded.users if excluded is not None else set())} == {"\n"}


@pytest.mark.parametrize(
    "foreign", ["", "x", PARENT.upper(), f"{PARENT} a=\u00fc", PARENT + " " + "a" * 600, f"{PARENT}\n"]
)
async def test_a_trace_in_another_form_is_left_out(foreign: str) -> None:
    recorder = received(f"- {to_json([['7', chr(10) + '@5', chr(10) + '_trace=' + foreign], ''])}")
    assert recorder.accepted_us == [5]
    assert not isinstance(recorder.accepted_us[0], TracedTime)
    assert recorder.excluded == [Exclusion(frozenset("7"))]


def test_a_long_tracestate_is_left_out() -> None:
    assert context_text(PARENT, "a" * (MAX_STATE_CHARS + 1)) == PARENT


async def test_notes_in_another_form_are_skipped() -> None:
    recorder = Recorder()
    topics = Topics(recorder)
    topics.add(["all"])
    topics.receive(b"all", b"e 1 0 - [1]\nid: e-1\n" + FRAME)
    assert recorder.events == []
    assert topics.skipped == 1
