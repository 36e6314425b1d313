"""Operation and administration: health, readiness, metrics; disconnecting and deleting a user.

Must not know: what events mean.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from notifier import metrics, rules
from notifier.api.answers import Disconnected, Health, Readiness
from notifier.api.http import json_response, publisher
from notifier.api.openapi import error_responses
from notifier.errors import NotFound

operation = APIRouter(tags=["operation"])
admin = APIRouter(
    prefix="/v1/users",
    tags=["administration"],
    responses=error_responses(401, 403, 404, 422, 503),
)


@operation.get("/healthz", summary="The process lives", responses={200: {"model": Health}})
async def healthz() -> Response:
    """200 as long as the process responds."""
    return json_response({"status": "ok"})


@operation.get(
    "/readyz",
    summary="It can deliver",
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "Draining, or the broker is away."}},
)
async def readyz(request: Request) -> Response:
    """200 if an event published now would reach the streams of this process."""
    state = request.app.state
    draining, reachable = state.hub.draining, state.broker.ready
    ready = reachable and not draining
    shards_away = list(state.broker.shards_away)
    broker = "away" if not reachable else "degraded" if shards_away else "ok"
    answer = {"ready": ready, "broker": broker, "draining": draining}
    return json_response(answer | ({"shards_away": shards_away} if shards_away else {}), 200 if ready else 503)


@operation.get("/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse)
async def read_metrics(request: Request) -> Response:
    """The numbers of every worker, in Prometheus' text format, or in OpenMetrics for `Accept:
    application/openmetrics-text`; each series has the label `worker`."""
    state = request.app.state
    if not state.settings.metrics:
        raise NotFound("metrics are disabled by NOTIFIER_METRICS")
    workers, missing = await state.workers.all()
    open_metrics = metrics.is_open_metrics(request.headers.get("accept", ""))
    text = metrics.text(workers, missing=missing, open_metrics=open_metrics)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    return Response(text, headers=headers, media_type=metrics.OPEN_METRICS if open_metrics else metrics.PLAIN)


@admin.delete("/{user_id:path}", summary="Forget a user", status_code=204)
async def forget(request: Request, user_id: str) -> Response:
    """End a user's streams and delete the user's data: messages, read marks, the list of tasks."""
    publisher(request, "admin")
    if request.scope["raw_path"].endswith((b"/presence", b"/disconnect", b"/connections")):
        # Paths of their own: a wrong method there must not delete a user. In a user id, the slash is sent as %2F.
        raise HTTPException(405)
    broker = request.app.state.broker
    user = rules.name(user_id, "id")
    await broker.forget(user)
    await broker.disconnect(user, forgotten=True)
    request.app.state.hub.forget(user)
    await request.app.state.hub.calls.forget_records(user)
    return Response(status_code=204)


@admin.post(
    "/{user_id:path}/disconnect",
    summary="End a user's streams",
    responses={200: {"model": Disconnected}},
)
async def disconnect(request: Request, user_id: str) -> Response:
    """End all streams of a user, in every process, with a `bye` whose reason is `revoked`."""
    publisher(request, "admin")
    await request.app.state.broker.disconnect(rules.name(user_id, "id"))
    return json_response({"user": user_id})
