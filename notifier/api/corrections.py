"""The calls that change a published message: PATCH and DELETE /v1/messages/{id}.

Must not know: how brokers store messages, who listens.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import parsing, rules
from notifier.api.answers import MessageData
from notifier.api.bodies import CorrectionIn, RetractionIn
from notifier.api.http import json_response, object_of, parse, publisher, read_body
from notifier.api.openapi import body_of, error_responses
from notifier.api.publishing import Counted
from notifier.auth import Publisher
from notifier.broker import Broker
from notifier.errors import InvalidInput, NotFound
from notifier.message import corrected, message_of
from notifier.settings import Settings

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
    with Counted(request.app.state.publishing, "correction"):
        return await _correct(request, message_id)


async def _correct(request: Request, message_id: str) -> Response:
    who = _publisher(request)
    fields = object_of(parsing.parse_json(await read_body(request)))
    known = rules.identifier(message_id, "id")
    if "to" not in fields:
        raise InvalidInput("is required", field="to")
    channels = rules.recipients(fields["to"])
    who.require_channels(channels)
    changes = {name: value for name, value in fields.items() if name != "to"}
    settings: Settings = request.app.state.settings
    frames = await _broker(request).correct(
        known, channels, lambda stored: corrected(stored, changes, max_bytes=settings.max_event_bytes)
    )
    message = message_of(frames[0]) if frames else None
    if message is None:
        raise NotFound(f"there is no message {message_id!r} in these channels", field="id")
    return json_response(message)


@router.delete(
    "/messages/{message_id}",
    summary="Retract a message",
    status_code=204,
    openapi_extra=body_of({"application/json": RetractionIn}),
)
async def retract_message(request: Request, message_id: str) -> Response:
    """Remove a message from the history and the inboxes of these channels. Open streams get `inbox` with its id among
    `deleted`. A message that is not there is no error, so the call can be repeated."""
    with Counted(request.app.state.publishing, "retraction"):
        who = _publisher(request)
        channels = rules.recipients(parse(RetractionIn, await read_body(request)).to)
        who.require_channels(channels)
        await _broker(request).retract(rules.identifier(message_id, "id"), channels)
    return Response(status_code=204)


def _publisher(request: Request) -> Publisher:
    who = publisher(request)
    request.app.state.publishing.limit.take(who.name)
    return who


def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker
