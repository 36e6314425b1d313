"""The calls that change a published message: PATCH and DELETE /v1/messages/{id}.

Must not know: how brokers store messages, who listens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import MessageData
from notifier.api.bodies import CorrectionIn, RetractionIn
from notifier.api.http import json_answer, run_call, validate
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import Counted, Publishing
from notifier.auth import Publisher
from notifier.call import Answer, RequestHead
from notifier.errors import InvalidInput, NotFound
from notifier.message import corrected, message_of

router = APIRouter(
    prefix="/v1",
    tags=["publish"],
    responses=error_responses(400, 401, 403, 413, 415, 422, 429, 503),
)


@router.patch(
    "/messages/{message_id}",
    summary="Correct a message",
    responses={200: {"model": MessageData}, **error_responses(404)},
    openapi_extra=body_of({"application/json": CorrectionIn}),
)
async def correct_message(request: Request, message_id: str) -> Response:
    """Change fields of a message where it stands, in history and inboxes; a repeat changes nothing. Open streams get it
    again, with its id and `edited`. 404: none of the channels has it."""
    return await run_call(request, "correction", partial(_correct, _publishing(request)), last_segment=message_id)


async def _correct(publishing: Publishing, who: Publisher, head: RequestHead, body: bytes) -> Answer:
    with Counted(publishing, "correction"):
        headers, fields = publishing.accepted_body(who, head, body)
        return json_answer(await _corrected(publishing, who, head.last_segment, fields), headers)


async def _corrected(
    publishing: Publishing, who: Publisher, message_id: str, fields: Mapping[str, Any]
) -> Mapping[str, Any]:
    known = rules.identifier(message_id, "id")
    if "to" not in fields:
        raise InvalidInput("is required", field="to")
    channels = rules.recipients(fields["to"])
    who.require_channels(channels)
    changes = {name: value for name, value in fields.items() if name != "to"}
    frames = await publishing.broker.correct(
        known, channels, lambda stored: corrected(stored, changes, max_bytes=publishing.max_event_bytes)
    )
    message = message_of(frames[0]) if frames else None
    if message is None:
        raise NotFound(f"there is no message {message_id!r} in these channels", field="id")
    return message


@router.delete(
    "/messages/{message_id}",
    summary="Retract a message",
    status_code=204,
    openapi_extra=body_of({"application/json": RetractionIn}),
)
async def retract_message(request: Request, message_id: str) -> Response:
    """Remove a message from the history and the inboxes of these channels. Open streams get `inbox` with its id among
    `deleted`. A message that is not there is no error, so the call can be repeated."""
    return await run_call(request, "retraction", partial(_retract, _publishing(request)), last_segment=message_id)


async def _retract(publishing: Publishing, who: Publisher, head: RequestHead, body: bytes) -> Answer:
    with Counted(publishing, "retraction"):
        headers, fields = publishing.accepted_body(who, head, body)
        channels = rules.recipients(validate(RetractionIn, fields).to)
        who.require_channels(channels)
        await publishing.broker.retract(rules.identifier(head.last_segment, "id"), channels)
        return Answer(204, headers, b"")


def _publishing(request: Request) -> Publishing:
    publishing: Publishing = request.app.state.publishing
    return publishing
