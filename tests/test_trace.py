"""Verdicts from records that a running service makes only with luck: killed processes, lost connections, new epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from notifier.broker.afterwards import MAX_RECORDS, Stored, Trail
from notifier.event import Cursor
from notifier.records import Connection, Reset, Resumed
from notifier.trace import ENDED, Result, trace

CHANNELS = ("user:ann", "all")


def stored(seq: int = 5, **more: Any) -> Stored:
    fields = {"accepted_ms": 2000, "publisher": "", "expires_at_ms": 0, "is_excluded": False, **more}
    return Stored(channel="user:ann", seq=seq, **fields)


def connection(opened_ms: int, started: int, to: int | Cursor, **more: Any) -> Connection:
    """One that began at the seq `started` and came to `to`; `start`: the seq of the cursor that its client sent."""
    epoch = more.pop("epoch", "e")
    start = more.pop("start", None)
    fields: dict[str, Any] = {
        "closed_ms": 0,
        "closed_why": "",
        "process": "host:1",
        "address": "127.0.0.1",
        "agent": "browser",
        "top": Cursor(epoch, started),
        "sent": None,
        "unsent_bytes": 0,
        "replayed": 0,
        "resets": (),
        "resumed": (),
        "skipped": (),
        "channels": CHANNELS,
        "has_messages": True,
        "start": None if start is None else Cursor(epoch, start),
    }
    return Connection(
        id=f"{opened_ms:06}",
        opened_ms=opened_ms,
        started=Cursor(epoch, started),
        to=to if isinstance(to, Cursor) else Cursor(epoch, to),
        **{**fields, **more},
    )


def result(place: Stored, *connections: Connection) -> Result:
    return trace(Trail("e", [place], False), CHANNELS, connections, now_ms=9000, ttl_ms=8000)


def verdict(place: Stored, *connections: Connection) -> tuple[str, str]:
    """The verdict and its reason."""
    answer = result(place, *connections)
    return answer.verdict, answer.reason


KILLED = {"closed_why": ENDED}
CLOSED = {"closed_ms": 3000, "closed_why": "closed"}


def test_of_a_killed_process_the_next_cursor_says_whether_the_client_had_the_message() -> None:
    killed = connection(1000, 2, 3, **KILLED)
    assert verdict(stored(), killed) == ("waiting", "process_ended")
    assert verdict(stored(), killed, connection(4000, 7, 7, start=7)) == ("written", "acknowledged")
    back = connection(4000, 3, 7, start=3, top=Cursor("e", 7))
    assert verdict(stored(), killed, back) == ("replayed", "unconfirmed")


def test_the_cursor_of_a_page_that_began_anew_says_nothing_of_a_killed_process() -> None:
    killed, anew = connection(1000, 2, 3, **KILLED), connection(4000, 7, 7, **CLOSED)
    assert verdict(stored(), killed, anew, connection(5000, 7, 7, start=7)) == ("waiting", "process_ended")


def test_a_message_that_expired_after_a_process_was_killed_may_have_arrived() -> None:
    killed = connection(1000, 2, 3, **KILLED)
    assert verdict(stored(expires_at_ms=4000), killed) == ("expired", "process_ended")


def test_a_client_that_asks_again_for_what_was_written_did_not_get_it() -> None:
    lost = connection(1000, 2, 6, **CLOSED)
    assert verdict(stored(), lost) == ("written", "unconfirmed")
    slow = connection(4000, 2, 4, start=2)
    assert verdict(stored(), lost, slow) == ("waiting", "behind")
    other = connection(4000, 2, 4, start=2, agent="another browser")
    assert verdict(stored(), lost, other) == ("written", "unconfirmed")


def test_a_slow_connection_of_one_device_hides_no_delivery_to_another() -> None:
    slow = connection(1500, 2, 4, agent="phone")
    assert verdict(stored(), connection(1000, 2, 6), slow) == ("written", "unconfirmed")
    assert verdict(stored(), slow) == ("waiting", "behind")
    ended = connection(
        1500, 2, 6, agent="phone", unsent_bytes=9, closed_ms=3000, closed_why="slow", sent=Cursor("e", 4)
    )
    assert verdict(stored(), ended) == ("waiting", "unsent")


def test_a_connection_that_goes_through_a_new_epoch_has_what_came_before_and_after() -> None:
    """A restarted Redis begins a new epoch and goes on with its numbers."""
    through = connection(1000, 2, Cursor("e", 9), epoch="before", resets=[Reset(3000, 5, 7, "epoch_changed")])
    assert verdict(stored(4), through)[0] == "written"
    assert verdict(stored(6), through)[0] == "missed_reset"
    assert verdict(stored(8), through)[0] == "written"
    ended = connection(1000, 2, 6, epoch="before", **CLOSED)
    assert verdict(stored(5), ended)[0] == "written"
    assert verdict(stored(5, accepted_ms=3500), ended)[0] == "waiting"


@pytest.mark.parametrize(
    ("end", "expected"), [({"expires_at_ms": 2500}, ""), ({"removed": "retracted", "removed_ms": 2500}, "retracted")]
)
def test_a_slow_connection_reads_past_a_message_that_has_ended(end: dict[str, Any], expected: str) -> None:
    past = connection(1000, 2, 9, resumed=[Resumed(3000, 3, 9)])
    assert verdict(stored(**end), past) == ("expired", expected)
    in_time = connection(1000, 2, 9, resumed=[Resumed(2200, 3, 9)])
    assert verdict(stored(**end), in_time)[0] == "written"


def test_a_connection_that_was_left_out_is_excluded_until_another_has_the_message() -> None:
    left_out = connection(1000, 2, 6, skipped=[5])
    assert verdict(stored(), left_out) == ("excluded", "")
    assert verdict(stored(), connection(900, 2, 4, agent="phone"), left_out) == ("waiting", "behind")
    assert verdict(stored(), left_out, connection(1500, 2, 6, agent="phone"))[0] == "written"


def test_a_correction_is_written_to_a_page_that_began_after_the_message() -> None:
    page = connection(3000, 6, 6)
    assert verdict(stored(), page) == ("waiting", "in_inbox")
    assert verdict(stored(corrected_ms=[2900]), page) == ("waiting", "in_inbox")
    answer = result(stored(corrected_ms=[2900, 3100]), page, connection(4000, 7, 7, start=7))
    assert (answer.verdict, answer.reason, answer.at_ms) == ("written", "unconfirmed", 3100)


def test_what_was_removed_before_a_client_had_it_has_ended_and_a_reset_before_is_one() -> None:
    assert verdict(stored(removed="replaced", removed_ms=2500)) == ("expired", "replaced")
    assert verdict(stored(removed="replaced", removed_ms=2500), connection(1000, 2, 6))[0] == "written"
    for at_ms, expected in ((2400, "missed_reset"), (2600, "expired")):
        reset = connection(at_ms, 6, 6, resets=[Reset(at_ms, 0, 6, "cursor_unknown")])
        assert verdict(stored(removed="replaced", removed_ms=2500), reset)[0] == expected


def rotated(started: int, start: int | None) -> list[Connection]:
    """As many connections as are kept, of one client, that opened after the message."""
    first = connection(3000, started, started, start=start, **{**CLOSED, "closed_ms": 3001})
    later = [
        connection(at, started, started, start=started, closed_ms=at + 1) for at in range(3001, 3000 + MAX_RECORDS)
    ]
    return [first, *later]


def test_a_cursor_that_has_a_message_from_before_the_records_says_that_the_client_has_it() -> None:
    assert verdict(stored(), *rotated(7, 7)) == ("written", "before_records")
    assert verdict(stored(), *rotated(7, 7)[1:]) == ("waiting", "offline")  # fewer: all of them are recorded
    assert verdict(stored(accepted_ms=999), *rotated(7, 7)[-1:]) == ("written", "before_records")  # records that ended


def test_without_such_a_cursor_a_message_from_before_the_records_waits_as_far_as_they_say() -> None:
    assert verdict(stored(), *rotated(7, None)) == ("waiting", "before_records")
    assert verdict(stored(accepted_ms=999)) == ("waiting", "before_records")
    assert verdict(stored(), *rotated(2, 2)) == ("waiting", "before_records")
    other = [replace(each, channels=("all",)) for each in rotated(7, 7)]
    assert verdict(stored(), *other) == ("waiting", "before_records")


def test_a_message_that_ended_before_the_records_may_have_arrived() -> None:
    assert verdict(stored(expires_at_ms=8000), *rotated(7, 7)) == ("expired", "before_records")
    retracted = stored(removed="retracted", removed_ms=8000)
    assert verdict(retracted, *rotated(7, 7)) == ("expired", "before_records")


def test_a_reset_that_is_recorded_counts_more_than_an_older_cursor() -> None:
    first, *later = rotated(7, 7)
    told = replace(first, resets=(Reset(3000, 0, 7, "unknown_epoch"),))
    assert verdict(stored(), told, *later) == ("missed_reset", "")
