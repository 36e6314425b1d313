"""Batches: many publishes by one call, each with a result of its own.

Must not know: how brokers store data, who listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import json_text, parsing, problems, rules
from notifier.api.answers import BatchProblem, Results
from notifier.api.bodies import TaskPatch
from notifier.api.http import checked_body, idempotency, object_of, run_call, validate
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import Publishing, published
from notifier.api.schemas import REF
from notifier.auth import Publisher
from notifier.broker.values import Idempotency, Receipt
from notifier.call import JSON, Answer, RequestHead, media_type
from notifier.errors import BrokerUnavailable, InvalidInput, MalformedBody, NotifierError, RateLimited
from notifier.event import Event

MAX_BATCH_ITEMS: Final = 1000
BATCH_SLICE: Final = 100
"""Recipients after which a part of a batch goes to the broker; the item that reaches this number is its last. Then
other work of the process has its turn."""
PASSING: Final = (BrokerUnavailable, RateLimited)
"""Temporary reasons: the same call may succeed later."""
_BATCH: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_ITEMS,
    # Items are checked one by one: an invalid one gets its own result, and the others are published.
    "items": {"$ref": REF.format(model="BatchItem")},
}

router = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses=error_responses(400, 401, 403, 413, 415, 422, 429, 503, model=BatchProblem),
)


@router.post(
    "/batch",
    summary="Publish many",
    responses={200: {"model": Results}},
    openapi_extra=body_of(
        {"application/json": _BATCH, "application/x-ndjson": {"type": "string"}},
        "A JSON array, or NDJSON lines, of the other bodies, each with its `kind`: message, task, event, patch or "
        "output (the last two with the task's `id`).",
    ),
)
async def post_batch(request: Request) -> Response:
    """Publish items, each with a `kind` and the body of its own call. A failed item does not stop the others. If all
    failed for the same temporary reason, the call has its status and `Retry-After`: repeat it under the same
    `Idempotency-Key`; items that were stored are not stored again, and are answered as before."""
    batches: Batches = request.app.state.batches
    return await run_call(request, "batch", batches.post_batch, max_bytes=rules.MAX_BATCH_BYTES)


Result = str | NotifierError
"""The body of the response to an item's own call, as JSON; or its failure."""


KINDS: Final = ("message", "event", "task", "patch", "output")
"""Of items."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The call. Built by `app`."""

    publishing: Publishing

    async def post_batch(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        """Publish every item, and answer each."""
        try:
            return await self._post_batch(who, head, body)
        except Exception as exc:
            self.publishing.note("batch", exc)
            raise

    async def _post_batch(self, who: Publisher, head: RequestHead, body: bytes) -> Answer:
        items = _items(checked_body(head, body, rules.MAX_BATCH_BYTES), head.header(b"content-type") or "")
        idem = idempotency(head, who, items)
        headers = self.publishing.limit.take(who.name, len(items))
        results = await self._publish(who, items, idem)
        for item, result in zip(items, results, strict=True):
            self.publishing.counts[_counted(item, result)] += 1
        encoded = f"[{','.join([_result(result) for result in results])}]"
        if (exc := _passing(results)) is not None:
            return problems.answer(exc, headers, results=json_text.read_json(encoded))
        return Answer(200, (*headers, *JSON), f'{{"results":{encoded}}}'.encode("utf-8", "replace"))

    async def _publish(self, who: Publisher, items: Sequence[Any], idem: Idempotency | None) -> list[Result]:
        """Publish the items in order: messages and events together, while a task's item waits for all items before
        it."""
        results: list[Result] = []
        events: list[tuple[Event, Idempotency | None] | NotifierError] = []
        recipients = 0
        for index, item in enumerate(items):
            own_idem = Idempotency(f"{idem.key}/{index}", idem.fingerprint) if idem else None
            is_task = isinstance(item, Mapping) and item.get("kind") in ("task", "patch", "output")
            if is_task or recipients >= BATCH_SLICE:
                results += await self._publish_events(events)
                events = []
                if recipients >= BATCH_SLICE:
                    await asyncio.sleep(0)
                recipients = 0
            if is_task:
                results.append(await self._task(who, item, own_idem))
                await asyncio.sleep(0)
                continue
            try:
                event = self._event(who, item, own_idem)
            except NotifierError as exc:
                events.append(_alone(exc))
                recipients += 1  # its check took time too
            else:
                events.append((event, own_idem))
                recipients += len(event.to)
        return results + await self._publish_events(events)

    async def _publish_events(self, events: Sequence[tuple[Event, Idempotency | None] | NotifierError]) -> list[Result]:
        """The results of events, once the broker has answered all of them, and of items that are none."""
        sent = iter(self.publishing.broker.submit_all([event for event in events if isinstance(event, tuple)]))
        results = [next(sent) if isinstance(event, tuple) else event for event in events]
        pending = [result for result in results if not isinstance(result, Receipt | NotifierError)]
        # Coroutines start in order and reach the broker before they first wait, which keeps the batch's order.
        answers = iter(await asyncio.gather(*pending, return_exceptions=True))
        return [
            _settled(event, next(answers) if isinstance(result, Awaitable) else result)
            for event, result in zip(events, results, strict=True)
        ]

    def _event(self, who: Publisher, item: Any, idem: Idempotency | None) -> Event:
        if isinstance(item, NotifierError):
            raise item
        fields = dict(object_of(item))
        kind = fields.pop("kind", None)
        if kind == "message":
            return self.publishing.message_event(who, fields, idem)
        if kind == "event":
            return self.publishing.custom_event(who, fields)
        raise InvalidInput(f"must be message, task, event, patch or output, not {rules.shown(kind)}", field="kind")

    async def _task(self, who: Publisher, item: Mapping[str, Any], idem: Idempotency | None) -> Result:
        fields = dict(item)
        try:
            kind = fields.pop("kind")
            if kind == "task":
                return json_text.to_json(await self.publishing.create_task(who, fields, idem))
            task_id = rules.identifier(fields.pop("id", None), "id")
            if kind == "output":
                return json_text.to_json(await self.publishing.append_output(who, task_id, fields, idem))
            return json_text.to_json(await self.publishing.change_task(who, task_id, validate(TaskPatch, fields), idem))
        except NotifierError as exc:
            return _alone(exc)


def _alone(exc: NotifierError) -> NotifierError:
    """An error without the frames that it went through: with them, it and a list of results would be a cycle."""
    exc.__context__ = exc.__cause__ = None
    return exc.with_traceback(None)


def _settled(event: tuple[Event, Idempotency | None] | NotifierError, answer: object) -> Result:
    if isinstance(answer, NotifierError):
        return _alone(answer)
    if isinstance(answer, Receipt) and isinstance(event, tuple):
        return published(event[0], answer)
    assert isinstance(answer, BaseException)
    raise answer


def _result(result: Result) -> str:
    if isinstance(result, str):
        return f'{{"status":200,"body":{result}}}'
    return json_text.to_json({"status": result.status, "body": problems.fields(result)})


def _counted(item: Any, result: Result) -> str:
    """Kind and status of an item, for `Publishing.counts`."""
    kind = item.get("kind") if isinstance(item, Mapping) else None
    return f"{kind if kind in KINDS else 'unknown'} {200 if isinstance(result, str) else result.status}"


def _passing(results: Sequence[Result]) -> NotifierError | None:
    """The error of the whole call, if every item failed for the same temporary reason; of several, the longest wait."""
    for kind in PASSING:
        errors = [result for result in results if isinstance(result, kind)]
        if len(errors) == len(results):
            return max(errors, key=problems.retry_after_s)
    return None


def _items(body: bytes, content_type: str) -> list[Any]:
    lines = body.strip()
    kind = media_type(content_type)
    if kind == "application/json" and not lines.startswith(b"["):
        raise MalformedBody("must be a JSON array; send NDJSON lines as application/x-ndjson", field="body")
    if "ndjson" in kind or not lines.startswith(b"["):
        parts = _bounded([line for line in lines.split(b"\n") if line.strip()])
        return [_checked(parsing.parse_json, line) for line in parts]
    plain = parsing.parse_plain(lines, max_depth=1 + json_text.MAX_DEPTH)
    if plain is not None:
        return _bounded(plain)
    return [_checked(json_text.check_json, item) for item in _bounded(json_text.read_json(lines))]


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
