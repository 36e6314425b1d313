"""The user's own messages and tasks, with the subscriber's token.

Must not know: who publishes, how brokers store data.
"""

from __future__ import annotations

import contextlib
import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import event as events
from notifier import rules
from notifier.api.access import own_task, readable_task
from notifier.api.answers import InboxPage, PublisherTask, Tasks, Unread
from notifier.api.bodies import Ids
from notifier.api.http import json_response, parse, read_body, subscriber, whole_number
from notifier.api.openapi import body_of, error_responses
from notifier.auth import Publisher, Subscriber
from notifier.broker import Broker
from notifier.errors import Conflict, InvalidInput, NotAllowed, NotFound
from notifier.limits import UserCalls

MAX_PAGE = 100

router = APIRouter(
    prefix="/v1",
    tags=["user"],
    responses=error_responses(401, 403, 422, 429, 503),
)


@router.get("/inbox", summary="List messages", responses={200: {"model": InboxPage}}, openapi_extra={"parameters": [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 25, "minimum": 1, "maximum": MAX_PAGE}},
    {"name": "before", "in": "query", "description": "A message's id: only older ones.", "schema": {"type": "string"}},
    {"name": "unread", "in": "query", "description": "1: only unread ones.",
     "schema": {"type": "string", "enum": ["0", "1"]}},
]})  # fmt: skip
async def list_inbox(request: Request) -> Response:
    """The user's messages, newest first, with their read marks."""
    who, broker = _caller(request)
    query = request.query_params
    limit = whole_number(request, "limit", default=25, low=1, high=MAX_PAGE)
    before = rules.identifier(query["before"], "before") if query.get("before") else None
    unread = query.get("unread", "0")
    if unread not in ("0", "1"):
        raise InvalidInput(f"must be 0 or 1, not {rules.shown(unread)}", field="unread")
    async with _turn(request, who):
        page = await broker.inbox(who.user, who.channels, limit=limit, before=before, unread_only=unread == "1")
        return json_response(
            {"messages": list(page.messages), "more": page.more, "unread": page.unread, "cursor": str(page.cursor)}
        )


@router.get("/inbox/unread", summary="Count unread messages", responses={200: {"model": Unread}})
async def count_unread(request: Request) -> Response:
    """The number of messages that the user has not read."""
    who, broker = _caller(request)
    async with _turn(request, who):
        return json_response({"unread": await broker.unread(who.user, who.channels)})


@router.post(
    "/inbox/read",
    summary="Mark as read",
    responses={200: {"model": Unread}, **error_responses(400, 413, 415)},
    openapi_extra=body_of({"application/json": Ids}),
)
async def mark_read(request: Request) -> Response:
    """Mark some messages, or all, as read. Ids that are not in the inbox are ignored."""
    who, broker = _caller(request)
    body = parse(Ids, await read_body(request))
    if (body.ids is None) == (not body.all):
        raise InvalidInput('give either "ids" or "all": true', field="ids")
    ids = [rules.identifier(message_id, f"ids[{i}]") for i, message_id in enumerate(body.ids or ())]
    async with _turn(request, who):
        marked = await broker.mark(who.user, who.channels, "all" if body.all else "read", ids)
    return json_response({"unread": marked.unread})


@router.delete(
    "/inbox/{message_id}", summary="Delete a message", responses={200: {"model": Unread}, **error_responses(404)}
)
async def delete_message(request: Request, message_id: str) -> Response:
    """Delete a message from this user's inbox. Other recipients keep it."""
    who, broker = _caller(request)
    message = rules.identifier(message_id, "id")
    async with _turn(request, who):
        marked = await broker.mark(who.user, who.channels, "delete", [message])
    if not marked.changed:
        raise NotFound(f"there is no message {message_id!r} in this inbox", field="id")
    return json_response({"unread": marked.unread})


@router.get("/tasks", summary="List tasks", responses={200: {"model": Tasks}})
async def list_tasks(request: Request) -> Response:
    """The tasks that the user watches: running ones, and ended ones for a day or until dismissed; the 200 that changed
    last."""
    who, broker = _caller(request)
    async with _turn(request, who):
        tasks = await broker.tasks(who.user, who.heard)
        return json_response({"tasks": [task.public(who.may_cancel) for task in tasks]})


@router.get(
    "/tasks/{task_id}",
    summary="Read a task",
    responses={200: {"model": PublisherTask}, **error_responses(404)},
    openapi_extra={"security": [{"publisher": []}, {"subscriber": []}, {"subscriberCookie": []}]},
)
async def read_task(request: Request, task_id: str) -> Response:
    """Where a task stands: for a publisher, with `cancel_requested`; for a user who watches it, as on the stream."""
    broker: Broker = request.app.state.broker
    who, task = await readable_task(request, broker, task_id)
    return json_response(task.for_publisher() if isinstance(who, Publisher) else task.public(who.may_cancel))


@router.post(
    "/tasks/{task_id}/cancel",
    summary="Ask to cancel a task",
    responses={200: {"model": PublisherTask}, **error_responses(404, 409)},
)
async def cancel_task(request: Request, task_id: str) -> Response:
    """Ask the task's producer to stop: it sees `cancel_requested` in its next response. A repeat changes nothing. For
    users to whom the task was sent by name, and tokens with the claim `cancel`: a 403 for the others of a group."""
    who, broker = _caller(request)
    if not who.may_cancel((await own_task(request, broker, who, task_id)).to):
        raise NotAllowed("this task was sent to a group or to all: its cancel needs a token with the claim cancel")
    task = await broker.change_task(task_id, lambda stored: stored.cancelled_by_user(now_ms=int(time.time() * 1000)))
    return json_response(task.for_publisher())


@router.delete(
    "/tasks/{task_id}",
    summary="Dismiss an ended task",
    status_code=204,
    responses=error_responses(404, 409),
)
async def dismiss_task(request: Request, task_id: str) -> Response:
    """Remove an ended task from this user's list, also in the user's other tabs and devices."""
    who, broker = _caller(request)
    task = await own_task(request, broker, who, task_id)
    if not task.ended:
        raise Conflict(f"the task {task_id} is {task.status}; only ended tasks can be dismissed")
    await broker.dismiss_task(who.user, task_id)
    await broker.publish(events.task_dismissed(who.user, task_id))
    return Response(status_code=204)


def _caller(request: Request) -> tuple[Subscriber, Broker]:
    return subscriber(request), request.app.state.broker


def _turn(request: Request, who: Subscriber) -> contextlib.AbstractAsyncContextManager[None]:
    """Calls that read histories wait for their turn: one user must not delay the others."""
    calls: UserCalls = request.app.state.user_calls
    return calls.turn(who.user)
