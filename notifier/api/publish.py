"""Publishing: messages, tasks, events, batches. A request is checked, becomes an `Event` or a `Task`, and goes to the
broker; nothing here touches a stream.

Must not know: how brokers store data, who listens.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import event as events
from notifier import problems, rules, task
from notifier.api.http import idempotency, json_response, own_key, parse, publisher, read_body, validate
from notifier.api.models import (
    CloudEventIn,
    EventIn,
    MessageIn,
    Problem,
    Published,
    PublisherTask,
    Results,
    TaskIn,
    TaskPatch,
)
from notifier.api.openapi import body_of
from notifier.broker import Broker, Idempotency
from notifier.errors import InvalidInput, MalformedBody, NotifierError
from notifier.event import Event
from notifier.limits import RateLimit
from notifier.message import message_event

MAX_BATCH_BYTES: Final = 1024 * 1024
MAX_BATCH_ITEMS: Final = 1000
BATCH_SLICE: Final = 100
"""Items of a batch that are sent to the broker concurrently."""
CLOUD_EVENT: Final = "application/cloudevents+json"
_BATCH: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_ITEMS,
    # Items are checked one by one: an invalid one gets its own result, and the others are published.
    "items": {"description": "An object with its `kind` (message, task, event or patch) and the fields of its call."},
}

router = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses={code: {"model": Problem} for code in (400, 401, 403, 413, 422, 429, 503)},
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
        given = {name: getattr(body, name) for name in body.model_fields_set}
        change = {name: value for name, value in given.items() if value is not None or name == "total"}
        if not change:
            raise InvalidInput("must change something: state, done, total, status, error or advance", field="body")
        changed = await self.broker.change_task(task_id, lambda stored: stored.changed(change, now_ms=_now_ms()), idem)
        return changed.for_publisher()


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
    answer = await publishing.message(parse(MessageIn, body), idempotency(request, who, body))
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
    answer = await publishing.create_task(parse(TaskIn, body), idempotency(request, who, body))
    return json_response(answer, headers=headers)


@router.patch(
    "/tasks/{task_id}",
    summary="Report on a task",
    responses={200: {"model": PublisherTask}, 404: {"model": Problem}, 409: {"model": Problem}},
    openapi_extra=body_of({"application/json": TaskPatch}),
)
async def patch_task(request: Request, task_id: str) -> Response:
    """Change a task's state, progress or status. The response shows whether a user asked to cancel."""
    who = publisher(request)
    body = await read_body(request)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    patch = parse(TaskPatch, body)
    answer = await publishing.change_task(task_id, patch, idempotency(request, who, body))
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
    idem = idempotency(request, who, body)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CLOUD_EVENT:
        return json_response(await publishing.event(parse(EventIn, body), idem), headers=headers)
    cloud = _object(rules.parse_json(body))
    event = validate(EventIn, _from_cloud_event(cloud))
    if idem is None:
        # CloudEvents 1.0: source and id together name one event.
        key = own_key(who, "cloudevent", cloud["source"], cloud["id"])
        idem = Idempotency(key, hashlib.sha256(body).hexdigest()[:32])
    return json_response(await publishing.event(event, idem), headers=headers)


@router.post(
    "/batch",
    summary="Publish many",
    responses={200: {"model": Results}},
    openapi_extra=body_of(
        {"application/json": _BATCH, "application/x-ndjson": {"type": "string"}},
        "A JSON array, or NDJSON lines, of the other bodies, each with its `kind`: message, task, event, or patch "
        "(with the task's `id`).",
    ),
)
async def post_batch(request: Request) -> Response:
    """Publish items, each with a `kind` and the body of its own call. A failed item does not stop the others."""
    who = publisher(request)
    body = await read_body(request, MAX_BATCH_BYTES)
    items = _items(body, request.headers.get("content-type", ""))
    idem = idempotency(request, who, body)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name, len(items))
    results: list[dict[str, Any]] = []
    for start, stop in _slices(items):
        calls = [_result(publishing, items[i], idem, i) for i in range(start, stop)]
        # The calls start in order and reach the broker before they first wait, which keeps the batch's order.
        results += await asyncio.gather(*calls)
    return json_response({"results": results}, headers=headers)


CALLS: Final = {
    ("POST", "/v1/messages"): post_message,
    ("POST", "/v1/events"): post_event,
    ("POST", "/v1/batch"): post_batch,
}
"""The calls that `fast_path` dispatches before the framework's routing."""


async def _result(publishing: Publishing, item: Any, idem: Idempotency | None, index: int) -> dict[str, Any]:
    item_idem = Idempotency(f"{idem.key}/{index}", idem.fingerprint) if idem else None
    try:
        return {"status": 200, "body": await _dispatch(publishing, item, item_idem)}
    except NotifierError as exc:
        return {"status": exc.status, "body": problems.fields(exc)}


async def _dispatch(publishing: Publishing, item: Any, idem: Idempotency | None) -> dict[str, Any]:
    if isinstance(item, NotifierError):
        raise item
    fields = dict(_object(item))
    kind = fields.pop("kind", None)
    if kind == "message":
        return await publishing.message(validate(MessageIn, fields), idem)
    if kind == "event":
        return await publishing.event(validate(EventIn, fields), idem)
    if kind == "task":
        return await publishing.create_task(validate(TaskIn, fields), idem)
    if kind == "patch":
        task_id = rules.identifier(fields.pop("id", None), "id")
        return await publishing.change_task(task_id, validate(TaskPatch, fields), idem)
    raise InvalidInput(f"must be message, task, event or patch, not {rules.shown(kind)}", field="kind")


def _items(body: bytes, content_type: str) -> list[Any]:
    lines = body.strip()
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" and not lines.startswith(b"["):
        raise MalformedBody("must be a JSON array; send NDJSON lines as application/x-ndjson", field="body")
    if "ndjson" in kind or not lines.startswith(b"["):
        items = [_checked(rules.parse_json, line) for line in lines.split(b"\n") if line.strip()]
    else:
        items = [_checked(rules.check_json, item) for item in rules.read_json(lines)]
    if len(items) > MAX_BATCH_ITEMS:
        raise InvalidInput(f"has {len(items)} items; at most {MAX_BATCH_ITEMS} are accepted", field="body")
    if not items:
        raise InvalidInput("must have at least one item", field="body")
    return items


def _checked(check: Callable[[Any], Any], item: Any) -> Any:
    """The checked item, or the error for its result: an invalid item does not stop the others."""
    try:
        return check(item)
    except NotifierError as exc:
        return exc


def _slices(items: Sequence[Any]) -> list[tuple[int, int]]:
    """Ranges of items to publish concurrently: messages and events. A task's item waits for all items before it."""
    runs: list[tuple[int, int]] = []
    start = 0
    for i, item in enumerate(items):
        alone = isinstance(item, Mapping) and item.get("kind") in ("task", "patch")
        if alone or i - start >= BATCH_SLICE:
            if i > start:
                runs.append((start, i))
            start = i
        if alone:
            runs.append((i, i + 1))
            start = i + 1
    if start < len(items):
        runs.append((start, len(items)))
    return runs


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


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedBody(f"must be a JSON object, not {rules.shown(value)}", field="body")
    return value


def _now_ms() -> int:
    return int(time.time() * 1000)
