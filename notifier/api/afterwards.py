"""Questions about the past: a user's last connections, and what became of a message for a user.

Must not know: which process a stream was in, how verdicts are made.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import Connections, Traced
from notifier.api.http import json_response, publisher
from notifier.api.openapi import error_responses
from notifier.broker import Broker
from notifier.broker.afterwards import MAX_RECORDS
from notifier.errors import InvalidInput, NotFound
from notifier.hub import Hub
from notifier.polls import joined
from notifier.records import Connection, connection_of
from notifier.trace import ENDED, Result, trace

_QUERY: Final = [
    {"name": "user", "in": "query", "required": True, "schema": {"type": "string"}, "description": "The user's id."},
    {
        "name": "to",
        "in": "query",
        "schema": {"type": "array", "items": {"type": "string"}},
        "description": "Channels that the message was sent to, where the user's connections did not hear them.",
    },
]
MAX_TO: Final = 50
READINGS: Final = 5
"""Of a user's connections, at most: while processes write their records, they may be read twice."""

router = APIRouter(
    prefix="/v1",
    tags=["administration"],
    responses=error_responses(401, 403, 404, 422, 503),
)


@router.get(
    "/users/{user_id:path}/connections",
    summary="A user's last connections",
    responses={200: {"model": Connections}},
)
async def connections(request: Request, user_id: str) -> Response:
    """The last 20 connections of a user, the newest first, in every process. Polls of one client that follow each other
    are one connection."""
    publisher(request, "admin")
    user = rules.name(user_id, "id")
    last = await _connections(request, user)
    return json_response({"user": user, "connections": [_shown(each) for each in reversed(last)]})


@router.get(
    "/messages/{message_id}/trace",
    summary="What became of a message for a user",
    responses={200: {"model": Traced}},
    openapi_extra={"parameters": _QUERY},
)
async def message_trace(request: Request, message_id: str) -> Response:
    """Whether a message was written to one of a user's connections, and if not, why. From the history, the user's marks
    and the records of the user's connections."""
    publisher(request, "admin")
    user = rules.name(request.query_params.get("user"), "user")
    sought = rules.identifier(message_id, "id")
    given = request.query_params.getlist("to")
    if len(given) > MAX_TO:
        raise InvalidInput(f"has {len(given)} channels; at most {MAX_TO} are accepted", field="to")
    given = list(rules.recipients(given)) if given else []
    last = await _connections(request, user)
    heard = list(dict.fromkeys((f"user:{user}", *(name for each in last for name in each.channels), "all")))
    broker: Broker = request.app.state.broker
    trail = await broker.afterwards.trail(user, sought, list(dict.fromkeys((*heard, *given))))
    if not trail.places and not await _is_of_others(broker, sought, set(given) - set(heard)):
        raise NotFound(
            f"the message {rules.shown(sought)} is in no history that the user {rules.shown(user)} hears: it was sent "
            "to others (name its channels with `to`), or it was retracted, replaced, or has left the history",
            field="id",
        )
    places = trail.places
    ttl_ms = 1000 * request.app.state.hub.records.ttl_s
    result = trace(trail, heard, last, now_ms=int(time.time() * 1000), ttl_ms=ttl_ms)
    by_id = {each.id: each for each in last}
    accepted_ms = min((place.accepted_ms for place in places if place.accepted_ms), default=None)
    return json_response(
        {
            "id": sought,
            "user": user,
            "accepted_at": rules.iso_ms(accepted_ms),
            "publisher": next((place.publisher for place in places if place.publisher), None),
            "channels": [place.channel for place in places],
            "cursor": f"{trail.epoch}-{min(place.seq for place in places)}" if places else None,
            **_verdict(result),
            "connections": [
                {"step": step.verdict, "at": rules.iso_ms(step.at_ms), **_shown(by_id[step.connection])}
                for step in result.steps
            ],
        }
    )


def _verdict(result: Result) -> dict[str, Any]:
    return {"verdict": result.verdict, "reason": result.reason or None, "at": rules.iso_ms(result.at_ms)}


async def _connections(request: Request, user: str) -> list[Connection]:
    """The last connections of a user, the one that opened first comes first. An open record that no process knows is
    closed as `ENDED`."""
    broker: Broker = request.app.state.broker
    hub: Hub = request.app.state.hub
    # Read again if a process has written meanwhile: a record would be in neither, or in both, joined with others.
    stored, before = await broker.afterwards.records(user), None
    for _ in range(READINGS):
        if stored == before:
            break
        current = await hub.calls.open_records(user)
        stored, before = await broker.afterwards.records(user), stored
    known = {each.id: each for text in stored if (each := connection_of(text)) is not None}
    now = {each.id: each for text in current if (each := connection_of(text)) is not None}
    for record_id, each in known.items():
        if not each.closed_ms and record_id not in now:
            known[record_id] = replace(each, closed_why=ENDED)
    for record_id, each in now.items():
        if record_id not in known or not known[record_id].closed_ms:
            known[record_id] = each
    return joined(known[record_id] for record_id in sorted(known))[-MAX_RECORDS:]


def _shown(each: Connection) -> dict[str, Any]:
    return {
        "opened_at": rules.iso_ms(each.opened_ms),
        "closed_at": rules.iso_ms(each.closed_ms or None),
        "closed_why": each.closed_why or None,
        "process": each.process,
        "address": each.address,
        "user_agent": each.agent,
        "from": None if each.start is None else str(each.start),
        "to": None if each.to is None else str(each.to),
        "polls": each.polls,
        "replayed": each.replayed,
        "reset": each.resets[-1].reason if each.resets else None,
    }


async def _is_of_others(broker: Broker, message_id: str, channels: Collection[str]) -> bool:
    """True if another user's channel among these has the message: it may be on another shard than those searched."""
    for channel in sorted(channels):
        kind, _, user = channel.partition(":")
        if kind == "user" and (await broker.afterwards.trail(user, message_id, [channel])).places:
            return True
    return False
