"""A task's state and its transitions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifier import task as tasks
from notifier.errors import Conflict, InvalidInput
from notifier.task import Task
from notifier.task_record import from_record

ENDS = ["succeeded", "failed", "cancelled"]


def begun(**fields: Any) -> Task:
    return tasks.begin(**{"to": ["user:42"], "name": "Import", "task_id": "t1", "now_ms": 1_769_860_800_000, **fields})


def changed(task: Task, now_ms: int = 1_769_860_801_000, **change: Any) -> Task:
    return task.changed(change, now_ms=now_ms)


def refused_field(task: Task, **change: Any) -> str | None:
    with pytest.raises((InvalidInput, Conflict)) as error:
        changed(task, **change)
    return error.value.field


def test_a_task_begins_running_and_is_shown_with_every_field_of_the_contract() -> None:
    assert begun(state="reading", total=100).public() == {
        "id": "t1",
        "name": "Import",
        "status": "running",
        "state": "reading",
        "done": 0,
        "total": 100,
        "percent": 0,
        "eta_s": None,
        "started_at": "2026-01-31T12:00:00Z",
        "updated_at": "2026-01-31T12:00:00Z",
        "ended_at": None,
        "cancellable": True,
        "error": None,
        "url": None,
        "url_text": None,
        "question": None,
        "answer": None,
        "output": None,
    }


def test_the_response_to_its_producer_shows_whether_a_user_asked_to_cancel() -> None:
    assert begun().for_publisher() == {**begun().public(), "cancel_requested": False}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": []}, "to"),
        ({"to": ["nobody"]}, "to[0]"),
        ({"name": ""}, "name"),
        ({"name": "n" * 256}, "name"),
        ({"name": None}, "name"),
        ({"state": "s" * 2001}, "state"),
        ({"state": 1}, "state"),
        ({"total": -1}, "total"),
        ({"total": 1.5}, "total"),
        ({"total": True}, "total"),
        ({"task_id": "a b"}, "id"),
        ({"task_id": ""}, "id"),
    ],
)
def test_a_task_that_breaks_a_rule_does_not_begin(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        begun(**fields)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (999, 1000, 99), (2**53 - 2, 2**53 - 1, 99), (5, None, None)],
)
def test_percent_is_rounded_down_and_100_only_when_all_is_done(
    done: int, total: int | None, percent: int | None
) -> None:
    assert changed(begun(total=total), done=done).percent == percent


@pytest.mark.parametrize("total", [None, 0, 100])
def test_a_task_that_succeeded_is_at_100_percent_whatever_was_reported(total: int | None) -> None:
    task = changed(begun(total=total), status="succeeded")
    assert (task.percent, task.done, task.total) == (100, 0, total)


@pytest.mark.parametrize("status", ["failed", "cancelled", "cancelling", "stalled"])
def test_no_other_status_changes_the_percent(status: str) -> None:
    assert changed(changed(begun(total=4), done=1), status=status).percent == 25
    assert changed(begun(), status=status).percent is None


def test_eta_extrapolates_the_mean_rate_and_is_none_without_one() -> None:
    task = changed(begun(total=100), done=20, now_ms=1_769_860_804_000)
    assert task.eta_s == 16.0
    assert begun(total=100).eta_s is None
    assert changed(begun(), done=5).eta_s is None
    assert changed(task, status="failed").eta_s is None


def test_a_change_leaves_the_other_fields_as_they_are() -> None:
    task = changed(begun(state="reading", total=10), done=4)
    assert (task.state, task.done, task.total, task.status) == ("reading", 4, 10, "running")
    assert changed(task, state="writing").done == 4


def test_advance_adds_to_done() -> None:
    assert changed(changed(begun(total=10), advance=3), advance=4).done == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"done": 11}, "done"),
        ({"advance": 11}, "advance"),
        ({"advance": -1}, "advance"),
        ({"done": 1, "advance": 1}, "advance"),
        ({"done": "1"}, "done"),
        ({"total": 2}, "total"),
        ({"state": "\x00"}, "state"),
        ({"state": "s" * 2001}, "state"),
        ({"error": 1}, "error"),
        ({"status": "over"}, "status"),
        ({"status": ["running"]}, "status"),
        ({"name": "Other"}, "name"),
    ],
)
def test_a_change_that_breaks_a_rule_is_refused_with_the_field(change: dict[str, Any], field: str) -> None:
    task = changed(begun(total=10), done=3)
    assert refused_field(task, **change) == field


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("change", [{"status": "running"}, {"status": "succeeded"}, {"done": 1}, {"state": "x"}])
def test_a_task_that_has_ended_accepts_no_change(end: str, change: dict[str, Any]) -> None:
    task = changed(begun(), status=end)
    assert task.ended
    assert task.ended_at_ms == task.updated_at_ms
    with pytest.raises(Conflict) as error:
        changed(task, **change)
    assert error.value.field == next(iter(change))


def test_an_ended_task_is_kept_a_day_and_a_running_one_a_week() -> None:
    assert changed(begun(), status="succeeded").keep_s == 24 * 3600
    assert begun().keep_s == 7 * 24 * 3600


def test_a_stalled_task_runs_again_with_its_next_report() -> None:
    stalled = changed(begun(total=10), status="stalled")
    assert changed(stalled, advance=1).status == "running"


def test_a_running_task_may_become_pending_again() -> None:
    waiting = changed(begun(), status="pending", state="Retry 2")
    assert (waiting.status, changed(waiting, done=1).status) == ("pending", "running")


# Heartbeats

ALIVE_MS = 1_769_860_801_000


def silent(task: Task, seconds: float) -> Task:
    return task.stalled_or_failed(now_ms=ALIVE_MS + int(seconds * 1000), stalled_ms=30_000, failed_ms=3_600_000)


def test_a_task_is_stalled_and_later_failed_without_further_heartbeats() -> None:
    alive = changed(begun(), status="running")
    assert silent(alive, 29.9) is alive
    stalled = silent(alive, 30)
    assert (stalled.status, stalled.version, stalled.ended) == ("stalled", alive.version + 1, False)
    assert silent(stalled, 3599) is stalled
    failed = silent(stalled, 3600)
    assert (failed.status, failed.error) == ("failed", "Its producer sent no heartbeat for 3600 seconds")
    assert failed.ended_at_ms == failed.updated_at_ms == ALIVE_MS + 3_600_000
    assert silent(failed, 9999) is failed


@pytest.mark.parametrize("change", [{"status": "running"}, {"advance": 1}, {"state": "still here"}])
def test_any_report_of_a_stalled_task_s_producer_makes_it_run_again(change: dict[str, Any]) -> None:
    back = changed(silent(changed(begun(), status="running"), 60), now_ms=ALIVE_MS + 70_000, **change)
    assert (back.status, silent(back, 99)) == ("running", back)
    assert silent(back, 101).status == "stalled"


@pytest.mark.parametrize("change", [{}, {"status": "pending"}, {"status": "succeeded"}])
def test_a_task_without_heartbeats_or_pending_or_ended_never_stalls(change: dict[str, Any]) -> None:
    task = changed(changed(begun(), status="running"), **change) if change else changed(begun(), done=1)
    assert silent(task, 10_000) is task


def test_a_stalled_task_is_cancelled_at_once() -> None:
    cancelled = silent(changed(begun(), status="running"), 60).cancelled_by_user(now_ms=ALIVE_MS + 61_000)
    assert (cancelled.status, cancelled.ended, cancelled.cancel_requested) == ("cancelled", True, True)


def test_a_request_to_cancel_stands_until_the_task_ends() -> None:
    wished = begun().cancelled_by_user(now_ms=1_769_860_801_000)
    assert (wished.status, wished.cancel_requested) == ("cancelling", True)
    assert changed(wished, status="running").status == "cancelling"
    assert changed(wished, done=1).status == "cancelling"
    assert changed(changed(wished, status="stalled"), done=1).status == "cancelling"
    assert changed(wished, status="succeeded").status == "succeeded"
    assert changed(wished, status="cancelled").cancel_requested


def test_asking_to_cancel_twice_changes_nothing_more() -> None:
    wished = begun().cancelled_by_user(now_ms=1)
    assert wished.cancelled_by_user(now_ms=2) is wished


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_task_cannot_be_cancelled(end: str) -> None:
    with pytest.raises(Conflict):
        changed(begun(), status=end).cancelled_by_user(now_ms=1)


def test_a_task_s_times_never_go_back_with_the_clock() -> None:
    task = changed(begun(), now_ms=1_000)
    assert task.updated_at_ms == begun().updated_at_ms


def test_each_change_increments_the_version() -> None:
    task = changed(begun(), done=1)
    assert (begun().version, task.version) == (1, 2)


def test_a_task_event_carries_the_public_state_and_no_id() -> None:
    assert begun().frame() == f"event: task\ndata: {json.dumps(begun().public(), separators=(',', ':'))}\n\n"


# Records


def test_a_record_reads_back_as_the_same_task() -> None:
    for task in (begun(), changed(begun(total=3), done=3, status="failed", error="it broke")):
        assert from_record(task.record()) == task
        assert from_record(task.record().encode()) == task


@pytest.mark.parametrize(
    "damage",
    [
        {"done": "three"},
        {"done": -1},
        {"done": 9, "total": 3},
        {"total": 1.5},
        {"name": None},
        {"name": "\ud800"},
        {"state": "\x00"},
        {"status": "over"},
        {"status": ["running"]},
        {"status": "succeeded"},
        {"to": []},
        {"to": "user:42"},
        {"to": ["nobody"]},
        {"id": "a b"},
        {"error": 5},
        {"started_at_ms": None},
        {"updated_at_ms": 2**53 - 1},
        {"ended_at_ms": 1},
        {"version": "1"},
        {"cancel_requested": "yes"},
        {"alive_at_ms": "now"},
        {"surprise": 1},
    ],
)
def test_a_malformed_record_is_none(damage: dict[str, Any]) -> None:
    record = {**json.loads(begun(total=10).record()), **damage}
    assert from_record(json.dumps(record)) is None


@pytest.mark.parametrize("record", ["", "{", "[]", "null", "7", "{}", b"\xff", "[" * 100_000])
def test_a_record_that_is_not_a_task_is_none(record: str | bytes) -> None:
    assert from_record(record) is None


# The result


def test_the_change_that_ends_a_task_may_have_a_link_to_its_result() -> None:
    ended = changed(begun(), status="succeeded", url="/reports/7.csv", url_text="Download")
    assert (ended.public()["url"], ended.public()["url_text"]) == ("/reports/7.csv", "Download")
    assert from_record(ended.record()) == ended
    assert changed(begun(), status="failed", url="https://example.org/log").url_text is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "/reports/7.csv"}, "url"),
        ({"status": "running", "url": "/reports/7.csv"}, "url"),
        ({"url_text": "Download"}, "url_text"),
        ({"status": "succeeded", "url_text": "Download"}, "url_text"),
        ({"status": "succeeded", "url": "javascript:alert(1)"}, "url"),
        ({"status": "succeeded", "url": "data:text/html,x"}, "url"),
        ({"status": "succeeded", "url": ""}, "url"),
        ({"status": "succeeded", "url": 7}, "url"),
        ({"status": "succeeded", "url": "/a", "url_text": ""}, "url_text"),
        ({"status": "succeeded", "url": "/a", "url_text": "x" * 256}, "url_text"),
    ],
)
def test_a_link_that_breaks_a_rule_is_refused(change: dict[str, Any], field: str) -> None:
    assert refused_field(begun(), **change) == field


def test_a_record_without_a_link_is_that_of_the_version_before() -> None:
    assert "url" not in begun().record()


def test_a_record_with_a_link_that_runs_a_script_is_no_task() -> None:
    record = json.loads(changed(begun(), status="succeeded", url="/a").record())
    assert from_record(json.dumps(record)) is not None
    assert from_record(json.dumps({**record, "url": "javascript:alert(1)"})) is None
