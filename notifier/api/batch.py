"""Batches: many publishes by one call, each with a result of its own.

Must not know: how brokers store data, who listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import problems, rules
from notifier.api.http import idempotency, json_response, object_of, problem, publisher, read_body, validate
from notifier.api.models import BatchProblem, EventIn, MessageIn, Problem, Results, TaskIn, TaskPatch
from notifier.api.openapi import body_of
from notifier.api.publish import Publishing
from notifier.broker import Idempotency
from notifier.errors import BrokerUnavailable, InvalidInput, MalformedBody, NotifierError, RateLimited

MAX_BATCH_ITEMS: Final = 1000
BATCH_SLICE: Final = 100
"""Items of a batch that are sent to the broker concurrently."""
PASSING: Final = (BrokerUnavailable, RateLimited)
"""Temporary reasons: the same call may succeed later."""
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
    responses={
        **{code: {"model": Problem} for code in (400, 401, 403, 413, 415, 422)},
        **{code: {"model": BatchProblem} for code in (429, 503)},
    },
)


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
    """Publish items, each with a `kind` and the body of its own call. A failed item does not stop the others. If all
    failed for the same temporary reason, the call has its status and `Retry-After`: repeat it under the same
    `Idempotency-Key`; items that were stored are not stored again, and are answered as before."""
    who = publisher(request)
    body = await read_body(request, rules.MAX_BATCH_BYTES)
    items = _items(body, request.headers.get("content-type", ""))
    idem = idempotency(request, who, items)
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name, len(items))
    answers: list[dict[str, Any] | NotifierError] = []
    for start, stop in _slices(items):
        calls = [_answer(publishing, items[i], idem, i) for i in range(start, stop)]
        # The calls start in order and reach the broker before they first wait, which keeps the batch's order.
        answers += await asyncio.gather(*calls)
    results = [_result(answer) for answer in answers]
    if (exc := _passing(answers)) is not None:
        return problem(exc, headers=headers, results=results)
    return json_response({"results": results}, headers=headers)


CALLS: Final = {("POST", "/v1/batch"): post_batch}
"""The call that `fast_path` dispatches before the framework's routing."""


async def _answer(
    publishing: Publishing, item: Any, idem: Idempotency | None, index: int
) -> dict[str, Any] | NotifierError:
    item_idem = Idempotency(f"{idem.key}/{index}", idem.fingerprint) if idem else None
    try:
        return await _dispatch(publishing, item, item_idem)
    except NotifierError as exc:
        return exc


def _result(answer: dict[str, Any] | NotifierError) -> dict[str, Any]:
    if isinstance(answer, NotifierError):
        return {"status": answer.status, "body": problems.fields(answer)}
    return {"status": 200, "body": answer}


def _passing(answers: Sequence[dict[str, Any] | NotifierError]) -> NotifierError | None:
    """The error of the whole call, if every item failed for the same temporary reason; of several, the longest wait."""
    for kind in PASSING:
        errors = [answer for answer in answers if isinstance(answer, kind)]
        if len(errors) == len(answers):
            return max(errors, key=problems.retry_after_s)
    return None


async def _dispatch(publishing: Publishing, item: Any, idem: Idempotency | None) -> dict[str, Any]:
    if isinstance(item, NotifierError):
        raise item
    fields = dict(object_of(item))
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
        parts = _bounded([line for line in lines.split(b"\n") if line.strip()])
        return [_checked(rules.parse_json, line) for line in parts]
    return [_checked(rules.check_json, item) for item in _bounded(rules.read_json(lines))]


def _bounded(parts: list[Any]) -> list[Any]:
    """The parts of a batch, if there are neither none nor too many: before they are checked one by one."""
    if len(parts) > MAX_BATCH_ITEMS:
        raise InvalidInput(f"has {len(parts)} items; at most {MAX_BATCH_ITEMS} are accepted", field="body")
    if not parts:
        raise InvalidInput("must have at least one item", field="body")
    return parts


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
