"""Operation and administration: is the process alive, can it deliver, what it counted, presence and disconnecting.

Must not know: what events mean.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import rules
from notifier.api.http import json_response, publisher
from notifier.api.models import Problem

operation = APIRouter(tags=["operation"])
admin = APIRouter(
    prefix="/v1/users",
    tags=["administration"],
    responses={code: {"model": Problem} for code in (401, 403, 422, 503)},
)


@operation.get("/healthz", summary="The process lives")
async def healthz() -> Response:
    """Always 200 while the process answers."""
    return json_response({"status": "ok"})


@operation.get(
    "/readyz", summary="It can deliver", responses={503: {"description": "Draining, or the broker is away."}}
)
async def readyz(request: Request) -> Response:
    """200 when an event published now would reach the streams of this process."""
    state = request.app.state
    draining, reachable = state.hub.draining, state.broker.ready
    ready = reachable and not draining
    return json_response(
        {"ready": ready, "broker": "ok" if reachable else "away", "draining": draining}, 200 if ready else 503
    )


@admin.get("/{user_id}/presence", summary="Is a user listening?")
async def presence(request: Request, user_id: str) -> Response:
    """Whether any process holds a stream of this user."""
    publisher(request, "admin")
    broker = request.app.state.broker
    topic = broker.topics(rules.name(user_id, "id"), [f"user:{user_id}"])[0]
    return json_response({"user": user_id, "online": await broker.is_watched(topic)})


@admin.post("/{user_id}/disconnect", summary="End a user's streams")
async def disconnect(request: Request, user_id: str) -> Response:
    """Ends all streams of a user, in every process, with `bye` and the reason `revoked`."""
    publisher(request, "admin")
    await request.app.state.broker.disconnect(rules.name(user_id, "id"))
    return json_response({"user": user_id})
