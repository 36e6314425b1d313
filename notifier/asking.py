"""A task's questions: how its state changes when one is asked, answered, or not answered in time. Pure.

    running -> waiting -> running (the first answer, or after the timeout the default)
                  |-> cancelling, or one of the ends: the question is withdrawn

Each change is given to `Broker.change_task`, whose compare-and-set lets the first answer win. Must not know: asyncio,
HTTP.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from notifier.errors import Conflict, NotFound
from notifier.question import Answer, Question
from notifier.task import Task

MAX_ANSWERS: Final = 20
"""Answers that a task keeps: a producer that restarts asks again, and gets the old ones."""


def asked(task: Task, question: Question, *, now_ms: int) -> Task:
    """The state after a question. One that was asked before under its id changes nothing: the first counts.

    Raises `Conflict` while another question is open, and after a cancel or the end.
    """
    task = expired(task, now_ms=now_ms)
    if answer_to(task, question.id) is not None or (task.question is not None and task.question.id == question.id):
        return task
    if task.ended:
        raise task.conflict(f"ended as {task.status} and cannot ask")
    if task.cancel_requested:
        raise task.conflict("is being cancelled and cannot ask")
    if task.question is not None:
        raise Conflict(f"the task {task.id} waits for the answer to another question, {task.question.id}")
    at_ms = max(now_ms, task.updated_at_ms)
    return dataclasses.replace(
        task,
        status="waiting",
        question=dataclasses.replace(question, beats=task.alive_at_ms is not None),
        updated_at_ms=at_ms,
        version=task.version + 1,
        alive_at_ms=question.expires_at_ms,
    )


def answered(task: Task, question_id: str, value: object, *, by_id: str, by_name: str | None, now_ms: int) -> Task:
    """The state after a user's answer: running.

    Raises `InvalidInput` for what is no choice, `Conflict` with the winner's value if there is an answer already, or
    after a cancel or the end, and `NotFound` for a question that was never asked.
    """
    task = expired(task, now_ms=now_ms)
    question = task.question
    if question is None or question.id != question_id:
        raise refusal(task, question_id)
    return _closed(task, Answer(question.id, question.checked(value), by_id, by_name, now_ms), now_ms=now_ms)


def expired(task: Task, *, now_ms: int) -> Task:
    """The state at `now_ms`: a question that is not answered in time gets its default as the answer."""
    question = task.question
    if question is None or now_ms < question.expires_at_ms:
        return task
    return _closed(task, Answer(question.id, question.default, None, None, question.expires_at_ms), now_ms=now_ms)


def looked_up(task: Task, question_id: str, *, now_ms: int) -> tuple[Task, Answer | None]:
    """The state at `now_ms`, and the answer to one of its questions; None while that is open.

    Where the state is not `task`, the default has become the answer: the caller stores that by `expired` and looks at
    what is stored, since a user's answer may have been first. Raises `Conflict` where the question was withdrawn, and
    `NotFound` for a question that was never asked.
    """
    present = expired(task, now_ms=now_ms)
    answer = answer_to(present, question_id)
    if answer is None and (present.question is None or present.question.id != question_id):
        raise refusal(present, question_id)
    return present, answer


def answer_to(task: Task, question_id: str) -> Answer | None:
    """The answer to one of its questions; None while there is none."""
    return next((answer for answer in task.answers if answer.question == question_id), None)


def refusal(task: Task, question_id: str) -> Conflict | NotFound:
    """Why a question that is not open takes no answer, or will get none."""
    if (answer := answer_to(task, question_id)) is not None:
        exc = Conflict(f"the question {question_id} was answered with {answer.value!r}")
        exc.members = answer.public()
        return exc
    if task.ended or task.cancel_requested:
        return task.conflict(f"is {task.status}: the question {question_id} was withdrawn")
    return NotFound(f"the task {task.id} has no question {question_id!r}", field="question")


def _closed(task: Task, answer: Answer, *, now_ms: int) -> Task:
    assert task.question is not None
    at_ms = max(now_ms, task.updated_at_ms)
    return dataclasses.replace(
        task,
        status="running",
        question=None,
        answers=(*task.answers, answer)[-MAX_ANSWERS:],
        updated_at_ms=at_ms,
        version=task.version + 1,
        alive_at_ms=at_ms if task.question.beats else None,
    )
