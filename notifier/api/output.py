"""The output of a task: the routes that append to it and read it.

Must not know: how brokers store pieces, who listens.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.access import readable_task
from notifier.api.answers import Appended, OutputText
from notifier.api.bodies import OutputIn
from notifier.api.http import json_response, run_call, whole_number
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import Publishing
from notifier.broker import Broker

publisher = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses=error_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
reader = APIRouter(prefix="/v1", tags=["user"], responses=error_responses(401, 403, 404, 422, 503))


@publisher.post(
    "/tasks/{task_id}/output",
    summary="Append to a task's output",
    responses={200: {"model": Appended}},
    openapi_extra=body_of({"application/json": OutputIn}),
)
async def post_output(request: Request, task_id: str) -> Response:
    """Store the next piece of the task's output and announce it. The response shows whether a user asked to cancel."""
    publishing: Publishing = request.app.state.publishing
    return await run_call(request, "output", publishing.post_output, last_segment=task_id)


@reader.get(
    "/tasks/{task_id}/output",
    summary="Read a task's output",
    responses={200: {"model": OutputText}},
    openapi_extra={
        "security": [{"publisher": []}, {"subscriber": []}, {"subscriberCookie": []}],
        "parameters": [
            {
                "name": "after",
                "in": "query",
                "description": "The number of the last piece that the caller has.",
                "schema": {"type": "integer", "default": 0, "minimum": 0, "maximum": rules.MAX_WHOLE},
            }
        ],
    },
)
async def get_output(request: Request, task_id: str) -> Response:
    """The text of the pieces after a number; without one, of all that are kept."""
    broker: Broker = request.app.state.broker
    after = whole_number(request, "after", default=0, high=rules.MAX_WHOLE)
    await readable_task(request, broker, task_id)
    return json_response((await broker.output(task_id, after)).public())
