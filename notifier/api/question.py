"""The questions of a task: a publisher asks and waits for the answer, a user who watches the task gives it.

Must not know: how brokers store tasks.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.access import known_task, own_task, require_task
from notifier.api.answers import AnswerData, PublisherTask, TaskData
from notifier.api.bodies import AnswerIn, QuestionIn
from notifier.api.http import (
    MAX_WAIT_S,
    WAIT_S,
    json_response,
    parse,
    publisher,
    read_body,
    run_call,
    subscriber,
    wait_of,
)
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import Publishing
from notifier.asking import answered, expired, looked_up
from notifier.broker import Broker
from notifier.errors import NotAllowed
from notifier.question import Answer

LOOK_EVERY_S: Final = 0.5
"""A waiting call reads the task again after this time: an answer may be given to another process."""

asking = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses=error_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
answering = APIRouter(prefix="/v1", tags=["user"], responses=error_responses(400, 401, 403, 404, 409, 422, 503))


@asking.post(
    "/tasks/{task_id}/question",
    summary="Ask the users who watch a task",
    responses={200: {"model": PublisherTask}},
    openapi_extra=body_of({"application/json": QuestionIn}),
)
async def post_question(request: Request, task_id: str) -> Response:
    """The task is `waiting` until a user answers, or until the timeout, when the default is the answer. One question at
    a time: 409 while another is open."""
    publishing: Publishing = request.app.state.publishing
    return await run_call(request, "question", publishing.post_question, last_segment=task_id)


@answering.post(
    "/tasks/{task_id}/answer",
    summary="Answer a task's question",
    responses={200: {"model": TaskData}},
    openapi_extra=body_of({"application/json": AnswerIn}),
)
async def post_answer(request: Request, task_id: str) -> Response:
    """The first answer wins: later ones are a 409 with its `value` and `by`. The task goes on as `running`.
    A token with `answers` false answers only tasks that were sent to its user by name: a 403 for others."""
    who, broker = subscriber(request), _broker(request)
    body = parse(AnswerIn, await read_body(request))
    if not who.may_answer((await own_task(request, broker, who, task_id)).to):
        raise NotAllowed("the token's claim answers is false, and this task was not sent to its user by name")
    task = await broker.change_task(
        task_id,
        lambda stored: answered(stored, body.question, body.value, by_id=who.user, by_name=who.name, now_ms=_now_ms()),
    )
    return json_response(task.public(who.may_cancel))


@answering.get(
    "/tasks/{task_id}/answer",
    summary="Wait for the answer to a task's question",
    responses={200: {"model": AnswerData}, 204: {"description": "No answer yet.", "model": None}},
    openapi_extra={
        "security": [{"publisher": []}],
        "parameters": [
            {"name": "question", "in": "query", "required": True, "description": "The question's id.",
             "schema": {"type": "string"}},
            {"name": "wait_s", "in": "query", "description": "Longest time without an answer, in seconds.",
             "schema": {"type": "integer", "default": WAIT_S, "minimum": 0, "maximum": MAX_WAIT_S}},
        ],
    },
)  # fmt: skip
async def get_answer(request: Request, task_id: str) -> Response:
    """The answer as soon as there is one; 204 after `wait_s` without. 409 if the question was withdrawn: the task ended
    or was cancelled."""
    await require_task(_broker(request), publisher(request), task_id)
    question = rules.identifier(request.query_params.get("question"), "question")
    ends_at = time.monotonic() + wait_of(request)
    while True:
        answer = await _answer(_broker(request), task_id, question)
        if answer is not None:
            return json_response(answer.public())
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return Response(status_code=204)
        await asyncio.sleep(min(left_s, LOOK_EVERY_S))


async def _answer(broker: Broker, task_id: str, question_id: str) -> Answer | None:
    """The answer, or None while the question is open. Raises `Conflict`, `NotFound`."""
    task = await known_task(broker, task_id)
    present, answer = looked_up(task, question_id, now_ms=_now_ms())
    if present is not task:
        stored = await broker.change_task(task_id, lambda kept: expired(kept, now_ms=_now_ms()))
        _, answer = looked_up(stored, question_id, now_ms=_now_ms())
    return answer


def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker


def _now_ms() -> int:
    return int(time.time() * 1000)
