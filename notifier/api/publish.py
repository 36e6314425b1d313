"""Publishing: messages, tasks, events. A request is checked, becomes an `Event` or a `Task`, and goes to the
broker; nothing here touches a stream.

Must not know: how brokers store data, who listens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import event as events
from notifier import rules, task
from notifier.api.http import (
    fingerprint,
    idempotency,
    json_response,
    object_of,
    own_key,
    publisher,
    read_body,
    validate,
)
from notifier.api.models import (
    CloudEventIn,
    EventIn,
    MessageIn,
    Problem,
    Published,
    PublisherTask,
    TaskIn,
    TaskPatch,
)
from notifier.api.openapi import body_of
from notifier.broker import Broker, Idempotency
from notifier.errors import InvalidInput, NotFound
from notifier.event import Event
from notifier.limits import RateLimit
from notifier.message import message_event

CLOUD_EVENT: Final = "application/cloudevents+json"
NULL_TOTAL_DEPRECATED: Final = "@1795824000"
"""RFC 9745: since 2026-11-28 `{"total": null}` is to be written `{"total": "unknown"}`."""

log = logging.getLogger("notifier.api")
router = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses={code: {"model": Problem} for code in (400, 401, 403, 413, 415, 422, 429, 503)},
)


@dataclass(frozen=True, slots=True)
class Publishing:
    """The calls, independent of HTTP. Built by `app`."""

    broker: Broker
    limit: RateLimit
    max_event_bytes: int

    async def message(self, body: MessageIn, idem: Idempotency | None) -> dict[str, Any]:
        fields = body.model_dump(exclude_unset=True)
        own_id = fields.get("id")
        event = message_event(
            {**fields, "id": _identity(own_id, idem)},
            # A publisher that chose the id may send one message by several calls, each to some of its recipients.
            may_repeat=own_id is not None,
            max_bytes=self.max_event_bytes,
        )
        return await self._publish(event, idem)

    async def event(self, body: EventIn, idem: Idempotency | None) -> dict[str, Any]:
        event = events.custom(
            to=body.to, event_type=body.type, data=body.data, durable=body.durable, max_bytes=self.max_event_bytes
        )
        return await self._publish(event, idem)

    async def _publish(self, event: Event, idem: Idempotency | None) -> dict[str, Any]:
        receipt = await self.broker.publish(event, idem)
        return {"id": event.message_id or None, "cursor": receipt.cursor, "watched": receipt.watched}

    async def create_task(self, body: TaskIn, idem: Idempotency | None) -> dict[str, Any]:
        identity = _identity(body.id, idem)
        begun = task.begin(
            to=body.to, name=body.name, state=body.state, total=body.total, task_id=identity, now_ms=_now_ms()
        )
        return (await self.broker.create_task(begun, idem)).for_publisher()

    async def change_task(self, task_id: str, body: TaskPatch, idem: Idempotency | None) -> dict[str, Any]:
        change = {"total": task.UNKNOWN} if body.erases_total else body.model_dump(exclude_none=True)
        if not change:
            return (await known_task(self.broker, task_id)).for_publisher()
        changed = await self.broker.change_task(task_id, lambda stored: stored.changed(change, now_ms=_now_ms()), idem)
        return changed.for_publisher()


async def known_task(broker: Broker, task_id: str) -> task.Task:
    """A stored task. Raises `NotFound`."""
    known = await broker.task(task_id)
    if known is None:
        raise NotFound(f"there is no task {task_id!r}", field="id")
    return known


def _identity(given: str | None, idem: Idempotency | None) -> str | None:
    """The given id, or one derived from the idempotency key, so that repeats have the same. It depends on the body too:
    if the key expires and is used for another body, the new message must not replace the first."""
    if given is not None or idem is None:
        return given
    return events.id_from_key(f"{idem.key}/{idem.fingerprint}")


@router.post(
    "/messages",
    summary="Send a message",
    responses={200: {"model": Published}},
    openapi_extra=body_of({"application/json": MessageIn}),
)
async def post_message(request: Request) -> Response:
    """Store a message in its recipients' history and announce it. 200: stored and ordered, not yet seen by anyone."""
    who = publisher(request)
    body = await read_body(request)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    value = object_of(rules.parse_json(body))
    answer = await publishing.message(validate(MessageIn, value), idempotency(request, who, value))
    return json_response(answer, headers=headers)


@router.post(
    "/tasks",
    summary="Begin a task",
    responses={200: {"model": PublisherTask}},
    openapi_extra=body_of({"application/json": TaskIn}),
)
async def post_task(request: Request) -> Response:
    """Create a running task that its recipients watch."""
    who = publisher(request)
    body = await read_body(request)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    value = object_of(rules.parse_json(body))
    answer = await publishing.create_task(validate(TaskIn, value), idempotency(request, who, value))
    return json_response(answer, headers=headers)


@router.patch(
    "/tasks/{task_id}",
    summary="Report on a task",
    responses={200: {"model": PublisherTask}, 404: {"model": Problem}, 409: {"model": Problem}},
    openapi_extra=body_of({"application/json": TaskPatch}),
)
async def patch_task(request: Request, task_id: str) -> Response:
    """Change a task's state, progress or status. The response shows whether a user asked to cancel. Without a change
    (`{}`) the task stays as it is."""
    who = publisher(request)
    body = await read_body(request)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    value = object_of(rules.parse_json(body))
    patch = validate(TaskPatch, value)
    if patch.erases_total:
        headers = {**headers, "Deprecation": NULL_TOTAL_DEPRECATED}
        log.warning('%s sent {"total": null}, which is deprecated: {"total": "unknown"} is meant', who.name)
    answer = await publishing.change_task(task_id, patch, idempotency(request, who, value))
    return json_response(answer, headers=headers)


@router.post(
    "/events",
    summary="Publish an event",
    responses={200: {"model": Published}},
    openapi_extra=body_of({"application/json": EventIn, CLOUD_EVENT: CloudEventIn}),
)
async def post_event(request: Request) -> Response:
    """Publish an event of your own type. `application/cloudevents+json` is accepted too: its `type` and `data`, with
    the recipients in the extension attribute `to` (separated by commas)."""
    who = publisher(request)
    body = await read_body(request)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    value = object_of(rules.parse_json(body))
    idem = idempotency(request, who, value)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CLOUD_EVENT:
        return json_response(await publishing.event(validate(EventIn, value), idem), headers=headers)
    event = validate(EventIn, _from_cloud_event(value))
    if idem is None:
        # CloudEvents 1.0: source and id together name one event.
        key = own_key(who, "cloudevent", value["source"], value["id"])
        idem = Idempotency(key, fingerprint(value))
    return json_response(await publishing.event(event, idem), headers=headers)


CALLS: Final = {
    ("POST", "/v1/messages"): post_message,
    ("POST", "/v1/events"): post_event,
}
"""The calls that `fast_path` dispatches before the framework's routing."""


def _from_cloud_event(cloud: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("specversion", "id", "source", "type"):
        if not isinstance(cloud.get(name), str) or not cloud[name]:
            raise InvalidInput("is required in a CloudEvent, as a string", field=name)
    if cloud["specversion"] != "1.0":
        raise InvalidInput(f"must be '1.0', not {rules.shown(cloud['specversion'])}", field="specversion")
    if "data_base64" in cloud:
        raise InvalidInput("is not supported: events carry JSON", field="data_base64")
    to = cloud.get("to")
    if isinstance(to, str):
        to = [recipient.strip() for recipient in to.split(",")]
    fields = {"to": to, "type": cloud["type"], "data": cloud.get("data")}
    return {**fields, "durable": cloud["durable"]} if "durable" in cloud else fields


def _now_ms() -> int:
    return int(time.time() * 1000)
