"""Topics of open streams: POST /v1/stream/topics, and GET /v1/cursor for a page that is rendered now.

Must not know: which process has a stream.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.answers import CursorData, TopicsChanged
from notifier.api.bodies import TopicsIn
from notifier.api.granted import granted, granted_names
from notifier.api.http import (
    bearer,
    checked_body,
    json_answer,
    json_response,
    parse,
    publisher,
    run_user_call,
    subscriber,
)
from notifier.api.openapi import body_of, error_responses
from notifier.auth import Authenticator, Subscriber
from notifier.broker import Broker
from notifier.call import Answer, RequestHead
from notifier.control import StreamCalls
from notifier.errors import Unauthenticated
from notifier.grants import Change


class TopicCalls:
    """The call of `POST /v1/stream/topics`."""

    def __init__(self, authenticator: Authenticator, streams: StreamCalls) -> None:
        self._authenticator = authenticator
        self._streams = streams

    async def change(self, who: Subscriber, head: RequestHead, body: bytes) -> Answer:
        asked = parse(TopicsIn, checked_body(head, body))
        permitted = granted(self._authenticator, asked.add, who)
        change = Change(
            connection=asked.connection,
            add=permitted.ends,
            remove=granted_names(asked.remove, "remove"),
            since=asked.since,
            seen=permitted.seen,
            states={
                f"topic:{rules.name(name, 'state')}": rules.state(state, f"state.{name}")
                for name, state in asked.state.items()
            },
        )
        changed = await self._streams.change_topics(who.user, change)
        return json_answer({"topics": changed.topics, "cursor": changed.cursor, "stale": changed.stale})


router = APIRouter(prefix="/v1", responses=error_responses(401, 403, 422, 503))


@router.post(
    "/stream/topics",
    tags=["user"],
    summary="Change what a stream hears",
    responses={
        200: {"model": TopicsChanged},
        **error_responses(400, 404, 409, 413, 415),
    },
    openapi_extra=body_of({"application/json": TopicsIn}),
)
async def change_topics(request: Request) -> Response:
    """Add topics to an open stream by grants, or remove some. `stale` names the added ones that have newer events than
    `since`: what the page shows of them is to be fetched again."""
    topics: TopicCalls = request.app.state.topics
    return await run_user_call(request, topics.change)


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
        who = publisher(request)
        user = rules.name(request.query_params.get("user", "-"), "user")
        if user != "-":
            who.require_channels((f"user:{user}",), "user")
        return user
