"""The questions of a task: asked, answered, not answered in time, withdrawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifier import task as tasks
from notifier.asking import MAX_ANSWERS, answer_to, answered, asked, expired, looked_up
from notifier.errors import Conflict, InvalidInput, NotFound
from notifier.question import Question, ask
from notifier.task import Task
from notifier.task_record import from_record

YES_NO = [{"value": "yes", "text": "Yes"}, {"value": "no", "text": "No"}]
START_MS = 1_700_000_000_000


def question(**fields: Any) -> Question:
    given = {"text": "Overwrite?", "choices": YES_NO, "free": None, "default": "no", "timeout_s": 300}
    return ask(**{**given, "question_id": "q-1", "now_ms": START_MS, **fields})


def begun(*, beats: bool = False) -> Task:
    task = tasks.begin(to=["user:ann"], name="Import", now_ms=START_MS)
    return task.changed(tasks.BEAT, now_ms=START_MS) if beats else task


def waiting(*, beats: bool = False, **fields: Any) -> Task:
    return asked(begun(beats=beats), question(**fields), now_ms=START_MS)


def by_ann(task: Task, value: object = "yes", *, question_id: str = "q-1", at_ms: int = START_MS + 5) -> Task:
    return answered(task, question_id, value, by_id="ann", by_name="Ann", now_ms=at_ms)


def test_a_question_makes_the_task_wait_and_everyone_sees_it() -> None:
    task = waiting()
    assert (task.status, task.version) == ("waiting", 2)
    assert task.public()["question"] == {
        "id": "q-1",
        "text": "Overwrite?",
        "choices": YES_NO,
        "input": None,
        "asked_at": "2023-11-14T22:13:20Z",
        "expires_at": "2023-11-14T22:18:20Z",
    }
    assert waiting(choices=None, free="text", default=None).public()["question"]["input"] == "text"
    assert from_record(task.record()) == task


def test_the_first_answer_wins_and_later_ones_are_given_it() -> None:
    task = by_ann(waiting())
    assert (task.status, task.question) == ("running", None)
    with pytest.raises(Conflict, match="'yes'") as caught:
        answered(task, "q-1", "no", by_id="bob", by_name=None, now_ms=START_MS + 9)
    assert caught.value.members["value"] == "yes"
    assert caught.value.members["by"] == {"id": "ann", "name": "Ann"}
    assert from_record(task.record()) == task


@pytest.mark.parametrize("value", ["maybe", "", None, 7, ["yes"]])
def test_an_answer_that_is_no_choice_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="value"):
        by_ann(waiting(), value)


def test_any_text_answers_a_question_for_text() -> None:
    task = by_ann(waiting(choices=None, free="text"), "Straße 😀\n2")
    answer = answer_to(task, "q-1")
    assert answer is not None
    assert answer.value == "Straße 😀\n2"


def test_after_the_timeout_the_default_is_the_answer() -> None:
    task = waiting(timeout_s=10)
    assert expired(task, now_ms=START_MS + 9_999) is task
    late = expired(task, now_ms=START_MS + 20_000)
    answer = answer_to(late, "q-1")
    assert answer is not None
    assert answer.public() == {"value": "no", "by": None, "answered_at": "2023-11-14T22:13:30Z"}
    assert (late.status, late.question) == ("running", None)
    with pytest.raises(Conflict, match="'no'"):
        by_ann(task, at_ms=START_MS + 20_000)


def test_a_look_finds_the_answer_the_open_question_or_why_there_is_none() -> None:
    task = waiting(timeout_s=10)
    assert looked_up(task, "q-1", now_ms=START_MS + 9_999) == (task, None)
    late, answer = looked_up(task, "q-1", now_ms=START_MS + 10_000)
    assert answer is not None
    assert (answer.value, answer.by_id, late.status) == ("no", None, "running")
    assert looked_up(late, "q-1", now_ms=START_MS + 10_000) == (late, answer)
    with pytest.raises(NotFound):
        looked_up(task, "q-2", now_ms=START_MS)
    for end in (task.cancelled_by_user(now_ms=START_MS), task.changed({"status": "failed"}, now_ms=START_MS)):
        with pytest.raises(Conflict, match="withdrawn") as caught:
            looked_up(end, "q-1", now_ms=START_MS)
        assert caught.value.members == {"task_status": end.status}


def test_one_question_at_a_time_and_the_same_one_again_changes_nothing() -> None:
    task = waiting()
    with pytest.raises(Conflict, match="another question"):
        asked(task, question(question_id="q-2"), now_ms=START_MS)
    assert asked(task, question(), now_ms=START_MS + 1) is task
    done = by_ann(task)
    assert asked(done, question(), now_ms=START_MS + 9) is done
    second = asked(done, question(question_id="q-2"), now_ms=START_MS + 9)
    assert second.status == "waiting"
    assert by_ann(second, "no", question_id="q-2").answers[0].value == "yes"


def test_the_newest_answers_are_kept() -> None:
    task = begun()
    for number in range(MAX_ANSWERS + 3):
        task = by_ann(asked(task, question(question_id=f"q-{number}"), now_ms=START_MS), question_id=f"q-{number}")
    assert [answer.question for answer in task.answers] == [f"q-{number}" for number in range(3, MAX_ANSWERS + 3)]


def test_progress_and_heartbeats_do_not_end_the_wait() -> None:
    task = waiting()
    for change in (tasks.BEAT, {"done": 3}, {"state": "still"}, {"status": "pending"}):
        task = task.changed(change, now_ms=START_MS + 10)
        assert (task.status, task.question is not None) == ("waiting", True)
    with pytest.raises(InvalidInput, match="status"):
        begun().changed({"status": "waiting"}, now_ms=START_MS)


def test_an_end_or_a_cancel_withdraws_the_question() -> None:
    for status in ("succeeded", "failed", "cancelled"):
        task = waiting().changed({"status": status}, now_ms=START_MS + 1)
        assert task.question is None
        with pytest.raises(Conflict, match="withdrawn"):
            by_ann(task)
    task = waiting().cancelled_by_user(now_ms=START_MS + 1)
    assert (task.status, task.question, task.alive_at_ms) == ("cancelling", None, None)
    with pytest.raises(Conflict, match="cancelled"):
        asked(task, question(question_id="q-2"), now_ms=START_MS)
    with pytest.raises(Conflict, match="withdrawn"):
        by_ann(task)


def test_a_task_that_waits_does_not_stall_and_heartbeats_are_expected_again_after_it() -> None:
    for beats in (True, False):
        task = waiting(beats=beats, timeout_s=300)
        assert task.alive_at_ms == START_MS + 300_000
        assert by_ann(task).alive_at_ms == (START_MS + 5 if beats else None)
    task = waiting().changed(tasks.BEAT, now_ms=START_MS + 1)
    assert by_ann(task).alive_at_ms == START_MS + 5
    assert waiting(beats=True).cancelled_by_user(now_ms=START_MS + 7).alive_at_ms == START_MS + 7


def test_an_unknown_question_is_not_there() -> None:
    with pytest.raises(NotFound, match="question"):
        by_ann(waiting(), question_id="q-9")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("choices", {"choices": None}),
        ("choices", {"free": "text"}),
        ("choices", {"choices": []}),
        ("choices", {"choices": [{"value": f"{n}", "text": "x"} for n in range(11)]}),
        ("choices[1].value", {"choices": [YES_NO[0], YES_NO[0]]}),
        ("choices[0].text", {"choices": [{"value": "a", "text": ""}]}),
        ("input", {"choices": None, "free": "number"}),
        ("default", {"default": "maybe"}),
        ("timeout_s", {"timeout_s": 0}),
        ("timeout_s", {"timeout_s": 604_801}),
        ("timeout_s", {"timeout_s": 1.5}),
        ("text", {"text": " "}),
        ("text", {"text": "x" * 2001}),
        ("id", {"question_id": "a b"}),
    ],
)
def test_a_question_that_breaks_a_rule_is_refused(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        question(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "damage",
    [
        {"question": None},
        {"status": "running"},
        {"question": {"id": "q-1"}},
        {"question": 7},
        {"answers": [{"question": "q-1"}]},
        {"answers": [7]},
    ],
)
def test_a_damaged_record_is_none(damage: dict[str, Any]) -> None:
    record = {**json.loads(waiting().record()), **damage}
    assert from_record(json.dumps(record)) is None


def test_the_record_of_a_task_without_questions_is_that_of_earlier_versions() -> None:
    assert not {"question", "answers", "output_n", "output_chars"} & json.loads(begun().record()).keys()
