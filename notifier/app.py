"""Composition: the only module that builds objects. Settings become a broker, a hub, routes.

Must not contain rules of any kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from notifier import garbage, loop_lag
from notifier.api import (
    afterwards,
    batch,
    console,
    corrections,
    demo,
    errors,
    hooks,
    inbox,
    openapi,
    operation,
    output,
    pages,
    poll,
    presence,
    publish,
    question,
    topics,
)
from notifier.api.batch import Batches
from notifier.api.direct_calls import DirectCalls
from notifier.api.fast_path import FastPath
from notifier.api.origins import Origins
from notifier.api.publishing import Publishing
from notifier.api.stream import StreamEndpoint
from notifier.auth import Authenticator
from notifier.broker import Broker
from notifier.broker.registry import open_broker
from notifier.call import ORIGINS, Call, UserCall
from notifier.direct import CALLS
from notifier.errors import ConfigurationError
from notifier.hook import Hooks
from notifier.hub import Hub
from notifier.jwt_secret import MIN_SECRET_BYTES
from notifier.limits import RateLimit, UserCalls
from notifier.samples import ProcessSamples
from notifier.settings import Settings, load
from notifier.stalled import StalledTasks
from notifier.tracing import Tracing, open_tracing
from notifier.workers import Workers

if TYPE_CHECKING:
    from notifier.jwks import JwkSet

log = logging.getLogger("notifier")

SCHEMAS = Path(__file__).parent / "schemas"
"""A JSON Schema for the data of each event of a stream."""

DESCRIPTION = """Server-Sent Events for browsers, fed by HTTP POST: messages that prove they were not lost, and live
progress of tasks."""


def create() -> ASGIApp:
    """The application of one process, from the environment. uvicorn calls it in each worker."""
    return build(load())


def build(settings: Settings) -> ASGIApp:
    """The application, wrapped in the fast path. Nothing connects before its lifespan begins.

    Raises `ConfigurationError`.
    """
    settings.check_credentials()
    broker, tracing = open_broker(settings), open_tracing(settings)
    hub = Hub(
        broker,
        heartbeat_s=settings.heartbeat_s,
        max_streams_per_user=settings.max_streams_per_user,
        max_streams_per_address=settings.max_streams_per_address,
        max_backlog_bytes=settings.max_backlog_bytes,
        first_write=tracing.first_write,
    )
    app = FastAPI(
        title="notifier",
        version=version("sse-notifier"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # see docs/decisions.md
        generate_unique_id_function=openapi.operation_id,
    )
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    hub.records.ttl_s = settings.connections_ttl_s
    app.state.settings = settings
    app.state.broker = broker
    app.state.hub = hub
    app.state.tracing = tracing
    app.state.user_calls = UserCalls()
    app.state.demo_tasks = set()
    app.state.auth = Authenticator(**_credentials(settings))
    app.state.key_set = _key_set(settings.jwks_url, app.state.auth)
    limit = RateLimit(settings.publish_rate)
    app.state.publishing = Publishing(tracing.broker(broker), limit, settings.max_event_bytes)
    app.state.hooks = Hooks(settings.hooks)
    app.state.batches = Batches(app.state.publishing)
    app.state.samples = ProcessSamples(hub, broker, app.state.publishing.counts)
    app.state.workers = Workers.from_environment(app.state.samples.read)
    app.state.topics = topics.TopicCalls(app.state.auth, hub.calls)
    stream = StreamEndpoint(app, hub, broker, life_s=settings.stream_life_s)
    app.state.origins = origins = Origins(FastPath(app, "/v1/stream", stream), settings.cors_origins)
    app.state.direct_calls = _direct_calls(app, stream)
    app.state.console = console.Console(hub, broker, app.state.publishing)
    _add_routes(app, stream)
    errors.add_handlers(app)
    return origins


def _credentials(settings: Settings) -> dict[str, Any]:
    """The settings that `_reload` reads again."""
    if "," in settings.jwt_secret and len(settings.jwt_secrets) == 1:
        log.warning(
            "NOTIFIER_JWT_SECRET has a comma between parts of less than %d bytes: it is one secret. This is "
            "deprecated: a comma separates secrets",
            MIN_SECRET_BYTES,
        )
    return {
        "secrets": settings.jwt_secrets,
        "public_keys": settings.jwt_public_key,
        "issuer": settings.jwt_issuer,
        "api_keys": settings.api_keys,
    }


def _key_set(url: str, auth: Authenticator) -> JwkSet | None:
    if not url:
        return None
    from notifier.jwks import JwkSet  # with httpx, a tenth of the time that a start takes

    return JwkSet(url, auth.replace_set)


def _reload(auth: Authenticator, hooks: Hooks) -> None:
    """Read the credentials again, from the files that the environment names. Open streams stay."""
    try:
        settings = load()
        settings.check_credentials()
        auth.replace(**_credentials(settings))
        hooks.replace(settings.hooks)
    except ConfigurationError as exc:
        log.error("the credentials stay as they were: %s", exc)
    else:
        log.info("the credentials were read again: %d API keys", len(settings.api_keys))


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    broker: Broker = app.state.broker
    hub: Hub = app.state.hub
    settings: Settings = app.state.settings
    workers: Workers = app.state.workers
    key_set: JwkSet | None = app.state.key_set
    await broker.start(hub)
    await workers.start()
    if key_set is not None:
        app.state.auth.keys.lacks = key_set.lacks
        await key_set.fetch()
    stalled_tasks = StalledTasks(broker, stalled_s=settings.task_stalled_s, failed_s=settings.task_failed_s)
    loops = asyncio.create_task(_watch(app, broker, hub, stalled_tasks, key_set), name="loops")

    async def drain(hurry: Callable[[], bool]) -> None:
        await hub.drain(settings.drain_s, hurry)

    state: dict[str, Any] = {"drain": drain, CALLS: app.state.direct_calls, ORIGINS: app.state.origins}
    if not settings.dev:  # its credentials are in no file, and it ends with its terminal
        state["reload"] = partial(_reload, app.state.auth, app.state.hooks)
    garbage.begin()
    try:
        yield state
    finally:
        loops.cancel()
        garbage.end()
        for work in app.state.demo_tasks:
            work.cancel()
        await asyncio.gather(loops, *app.state.demo_tasks, return_exceptions=True)
        await hub.seen.write()
        await hub.records.write()
        await workers.close()
        await broker.close()
        await app.state.tracing.flush()


def _direct_calls(app: FastAPI, stream: StreamEndpoint) -> DirectCalls:
    """The calls that the protocol runs directly. Routes run the same."""
    publishing: Publishing = app.state.publishing
    tracing: Tracing = app.state.tracing
    calls: dict[tuple[bytes, bytes], Call] = {
        (b"POST", b"/v1/messages"): tracing.call("message", publishing.post_message),
        (b"POST", b"/v1/events"): tracing.call("event", publishing.post_event),
        (b"POST", b"/v1/batch"): tracing.call("batch", app.state.batches.post_batch),
        (b"POST", b"/v1/tasks"): tracing.call("task", publishing.post_task),
        (b"PATCH", b"/v1/tasks/"): tracing.call("patch", publishing.patch_task),
    }
    user_calls: dict[tuple[bytes, bytes], UserCall] = {(b"POST", b"/v1/stream/topics"): app.state.topics.change}
    return DirectCalls(app, calls, user_calls, stream)


async def _watch(app: FastAPI, broker: Broker, hub: Hub, stalled_tasks: StalledTasks, key_set: JwkSet | None) -> None:
    """Run the background loops. An unexpected exception in one ends the process, which would otherwise look healthy and
    deliver nothing."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hub.tick_forever(), name="ticker")
            group.create_task(hub.timers.expire_forever(), name="expiry")
            group.create_task(hub.reopen_forever(), name="reopener")
            group.create_task(hub.people.run_forever(), name="presence")
            group.create_task(hub.seen.run_forever(), name="seen")
            group.create_task(hub.records.run_forever(), name="records")
            group.create_task(broker.failed(), name="broker")
            group.create_task(stalled_tasks.watch_forever(), name="stalled")
            group.create_task(garbage.look_forever(), name="garbage")
            group.create_task(loop_lag.measure_forever(app.state.samples.lags), name="loop-lag")
            if key_set is not None:
                group.create_task(key_set.fetch_forever(), name="key-set")
            if app.state.settings.console:
                group.create_task(app.state.console.run_forever(), name="console")
    except Exception:
        log.critical("a background loop failed; the process ends", exc_info=True)
        os.kill(os.getpid(), signal.SIGTERM)


_ROUTERS = (
    *(publish.router, hooks.router, corrections.router, batch.router, output.publisher, output.reader),
    *(question.asking, question.answering),
    *(
        inbox.router,
        poll.router,
        topics.router,
        presence.router,
        afterwards.router,
        operation.admin,
        operation.operation,
        console.router,
    ),
)


def _add_routes(app: FastAPI, stream: StreamEndpoint) -> None:
    app.router.routes.append(Route("/v1/stream", endpoint=stream, methods=["GET"]))
    for router in _ROUTERS:
        app.include_router(router)
    if app.state.settings.console:
        watching = console.ConsoleStream(app, app.state.hub, app.state.broker, life_s=app.state.settings.stream_life_s)
        app.router.routes.append(Route("/v1/console/stream", endpoint=watching, methods=["GET"]))
        app.router.routes.append(Route("/console", endpoint=pages.console))
    if app.state.settings.dev:
        app.include_router(demo.router)
        app.router.routes.append(Route("/demo", endpoint=pages.demo))
    app.router.routes.append(Route("/docs", endpoint=_docs_page))
    app.router.routes.append(Route("/openapi-3.0.json", endpoint=_openapi_30))
    app.mount("/schemas", pages.Shared(directory=SCHEMAS), name="schemas")
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs")
    app.mount("/client", GZipMiddleware(pages.Shared(directory=pages.CLIENT, check_dir=False)), name="client")


async def _docs_page(request: Request) -> Response:
    """Swagger UI from bundled files: FastAPI's page would load it from another host."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="notifier: the API",
        swagger_js_url="docs/static/swagger-ui-bundle.js",
        swagger_css_url="docs/static/swagger-ui.css",
        swagger_favicon_url="client/demo/icon.svg",
    )


async def _openapi_30(request: Request) -> Response:
    return JSONResponse(openapi.document_30(request.app))
