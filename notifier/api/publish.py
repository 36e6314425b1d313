"""The routes of publishers' calls: their documentation, and the way of requests that are not plain (see `direct`).

Must not know: what the calls do.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier.api.answers import Published, PublisherTask
from notifier.api.bodies import CloudEventIn, EventIn, MessageIn, TaskIn, TaskPatch
from notifier.api.http import run_call
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import CLOUD_EVENT, Publishing

router = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses=error_responses(400, 401, 403, 413, 415, 422, 429, 503),
)


@router.post(
    "/messages",
    summary="Send a message",
    responses={200: {"model": Published}},
    openapi_extra=body_of({"application/json": MessageIn}),
)
async def post_message(request: Request) -> Response:
    """Store a message in its recipients' history and announce it. 200: stored and ordered, not yet seen by anyone."""
    return await run_call(request, "message", _publishing(request).post_message)


@router.post(
    "/tasks",
    summary="Begin a task",
    responses={200: {"model": PublisherTask}},
    openapi_extra=body_of({"application/json": TaskIn}),
)
async def post_task(request: Request) -> Response:
    """Create a running task that its recipients watch."""
    return await run_call(request, "task", _publishing(request).post_task)


@router.patch(
    "/tasks/{task_id}",
    summary="Report on a task",
    responses={200: {"model": PublisherTask}, **error_responses(404, 409)},
    openapi_extra=body_of({"application/json": TaskPatch}),
)
async def patch_task(request: Request, task_id: str) -> Response:
    """Change a task's state, progress or status. The response shows whether a user asked to cancel. Without a change
    (`{}`) the task stays as it is."""
    return await run_call(request, "patch", _publishing(request).patch_task, last_segment=task_id)


@router.post(
    "/events",
    summary="Publish an event",
    responses={200: {"model": Published}},
    openapi_extra=body_of({"application/json": EventIn, CLOUD_EVENT: CloudEventIn}),
)
async def post_event(request: Request) -> Response:
    """Publish an event of your own type. `application/cloudevents+json` is accepted too: its `type` and `data`, with
    the recipients in the extension attribute `to` (separated by commas)."""
    return await run_call(request, "event", _publishing(request).post_event)


def _publishing(request: Request) -> Publishing:
    publishing: Publishing = request.app.state.publishing
    return publishing
