"""Topics of open streams: POST /v1/stream/topics, and GET /v1/cursor for a page that is rendered now.

Must not know: which process has a stream.
"""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import CursorData, Problem, TopicsChanged
from notifier.api.bodies import TopicsIn
from notifier.api.granted import granted, granted_names
from notifier.api.http import bearer, json_response, parse, publisher, read_body, subscriber
from notifier.api.openapi import body_of
from notifier.broker import Broker
from notifier.errors import Unauthenticated
from notifier.grants import Change
from notifier.hub import Hub

router = APIRouter(prefix="/v1", responses={code: {"model": Problem} for code in (401, 403, 422, 503)})


@router.post(
    "/stream/topics",
    tags=["user"],
    summary="Change what a stream hears",
    responses={
        200: {"model": TopicsChanged},
        **{code: {"model": Problem} for code in (400, 404, 409, 413, 415)},
    },
    openapi_extra=body_of({"application/json": TopicsIn}),
)
async def change_topics(request: Request) -> Response:
    """Add topics to an open stream by grants, or remove some. `stale` names the added ones that have newer events than
    `since`: what the page shows of them is to be fetched again."""
    who = subscriber(request)
    body = parse(TopicsIn, await read_body(request))
    permitted = granted(request, body.add, who)
    change = Change(
        connection=body.connection,
        add=permitted.ends,
        remove=granted_names(body.remove, "remove"),
        since=body.since,
        seen=permitted.seen,
        states={
            f"topic:{rules.name(name, 'state')}": rules.state(state, f"state.{name}")
            for name, state in body.state.items()
        },
    )
    hub: Hub = request.app.state.hub
    return json_response(asdict(await hub.calls.change_topics(who.user, change)))


@router.get(
    "/cursor",
    tags=["stream"],
    summary="The present end of the order",
    responses={200: {"model": CursorData}},
    openapi_extra={
        "security": [{"subscriber": []}, {"subscriberCookie": []}, {"publisher": []}],
        "parameters": [
            {"name": "user", "in": "query", "schema": {"type": "string"},
             "description": "The page's user, for publishers: with several shards each has a cursor."},
        ],
    },
)  # fmt: skip
async def read_cursor(request: Request) -> Response:
    """The cursor of a page that is rendered now: its `since`."""
    broker: Broker = request.app.state.broker
    user = _user(request)
    opening = await broker.open(user, [f"user:{user}"], None)
    return json_response({"cursor": str(opening.cursor)})


def _user(request: Request) -> str:
    try:
        return subscriber(request).user
    except Unauthenticated:
        if bearer(request) is None:
            raise
        publisher(request)
        return rules.name(request.query_params.get("user", "-"), "user")
