"""Who is there: the people on a topic, and the users with open streams.

Must not know: how presence is kept, which process has a stream.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import People, Presence, Presences
from notifier.api.bodies import UsersIn
from notifier.api.granted import granted_by_query
from notifier.api.http import json_response, parse, publisher, publisher_or_subscriber, read_body
from notifier.api.openapi import PUBLISHER, body_of, error_responses
from notifier.auth import Publisher
from notifier.broker import Broker
from notifier.errors import NotAllowed
from notifier.hub import Hub
from notifier.people import MAX_SHOWN, by_user

router = APIRouter(prefix="/v1", responses=error_responses(401, 403, 422, 503))


@router.get(
    "/topics/{name:path}/presence",
    tags=["user"],
    summary="Who is present on a topic",
    responses={200: {"model": People}, **error_responses(404, 409)},
    openapi_extra={
        "security": [{"subscriber": []}, {"subscriberCookie": []}, {"publisher": []}],
        "parameters": [
            {"name": "grant", "in": "query", "schema": {"type": "string"}, "description": "A grant of the topic."}
        ],
    },
)
async def topic_presence(request: Request, name: str) -> Response:
    """The number of people on a topic, and at most 100 of them: those whose grants have `presence`. For publishers, and
    for subscribers whose token or grant has the topic."""
    channel = f"topic:{rules.name(name, 'name')}"
    who = publisher_or_subscriber(request)
    if isinstance(who, Publisher):
        who.require("publish")
        who.require_channels((channel,), "name")
    elif channel not in who.topics and granted_by_query(request, who).ends.get(channel, 0) <= time.time():
        raise NotAllowed("needs a token or a grant with this topic", field="grant")
    users = by_user(await _broker(request).people(channel))
    shown = [person.public() for person in list(users.values())[:MAX_SHOWN]]
    return json_response({"count": len(users), "users": shown})


@router.get(
    "/users/{user_id:path}/presence",
    tags=["administration"],
    summary="Is a user there?",
    responses={200: {"model": Presence}},
    openapi_extra=PUBLISHER,
)
async def user_presence(request: Request, user_id: str) -> Response:
    """Whether the user has open streams, in any process, how many, and when there was the last."""
    who = publisher(request)
    user, broker = rules.name(user_id, "id"), _broker(request)
    who.require_channels((f"user:{user}",), "id")
    hub: Hub = request.app.state.hub
    connections = await hub.calls.count_streams(user)
    online = connections > 0 or await broker.is_watched(broker.topics(user, [f"user:{user}"])[0])
    seen = _seen_at(online, (await hub.seen.of([user])).get(user))
    return json_response({"user": user, "online": online, "connections": max(connections, int(online)), **seen})


@router.post(
    "/presence",
    tags=["administration"],
    summary="Which users are there?",
    responses={200: {"model": Presences}, **error_responses(400, 413, 415)},
    openapi_extra={**PUBLISHER, **body_of({"application/json": UsersIn})},
)
async def presences(request: Request) -> Response:
    """Which of these users have an open stream, in any process, and when each had the last."""
    who = publisher(request)
    body = parse(UsersIn, await read_body(request))
    users = [rules.name(user, f"users[{i}]") for i, user in enumerate(body.users)]
    who.require_channels([f"user:{user}" for user in users], "users")
    broker = _broker(request)
    topics = {user: broker.topics(user, [f"user:{user}"])[0] for user in users}
    watched = await broker.watched(list(topics.values()))
    hub: Hub = request.app.state.hub
    seen = await hub.seen.of(users)
    answer: dict[str, Any] = {
        user: {"online": topic in watched, **_seen_at(topic in watched, seen.get(user))}
        for user, topic in topics.items()
    }
    return json_response({"users": answer})


def _seen_at(online: bool, seen_ms: int | None) -> dict[str, str | None]:
    return {"last_seen_at": rules.iso_ms(int(time.time() * 1000) if online else seen_ms)}


def _broker(request: Request) -> Broker:
    broker: Broker = request.app.state.broker
    return broker
