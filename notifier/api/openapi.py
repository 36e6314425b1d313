"""The OpenAPI document: FastAPI's own, plus the request bodies that the routes parse themselves, and the stream.

It is built at the first request for it, and kept. Must not know: what the routes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from notifier.api import answers, bodies, schemas
from notifier.api.openapi_30 import converted
from notifier.api.schemas import REF
from notifier.api.stream_call import CURSOR, stream_call
from notifier.api.stream_events import STREAM_EVENTS

BODIES: tuple[type[BaseModel], ...] = (
    bodies.MessageIn,
    bodies.TaskIn,
    bodies.TaskPatch,
    bodies.OutputIn,
    bodies.QuestionIn,
    bodies.AnswerIn,
    bodies.EventIn,
    bodies.CloudEventIn,
    bodies.Ids,
    bodies.TopicsIn,
    bodies.CorrectionIn,
    bodies.RetractionIn,
    bodies.UsersIn,
    *bodies.BATCH_ITEMS.values(),
    answers.Problem,
    answers.BatchProblem,
)
BATCH_ITEM: Final = {
    "description": "An item of a batch: its `kind`, and the fields of its call.",
    "oneOf": [{"$ref": REF.format(model=model.__name__)} for model in bodies.BATCH_ITEMS.values()],
    "discriminator": {
        "propertyName": "kind",
        "mapping": {kind: REF.format(model=model.__name__) for kind, model in bodies.BATCH_ITEMS.items()},
    },
}
SERVERS: Final = (
    {"url": "/", "description": "The service that serves this document."},
    {
        "url": "{address}",
        "description": "Any other.",
        "variables": {"address": {"default": "http://127.0.0.1:8000", "description": "Its public address."}},
    },
)

GRANT: Final = {"$ref": "#/components/parameters/Grant"}
IDEMPOTENCY_KEY: Final = {"$ref": "#/components/parameters/IdempotencyKey"}
PARAMETERS: Final = {
    "Cursor": CURSOR,
    "Grant": {
        "name": "grant",
        "in": "query",
        "required": False,
        "description": "A grant of topics, which are heard from the start; at most 20, with 6 KiB together.",
        "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key and body give the same response for 5 minutes; another body under it is a 422.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
}
HEADERS: Final = {
    "Retry-After": {
        "description": "After how many seconds the call may be repeated.",
        "schema": {"type": "integer", "format": "int32", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "What is needed, as RFC 6750 says.", "schema": {"type": "string"}},
    "RateLimit": {"description": "What is left of the publish rate, where there is one.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The publish rate, where there is one.", "schema": {"type": "string"}},
}
"""Headers of answers, beside those that every HTTP answer has."""
PUBLISHER: Final[dict[str, Any]] = {"security": [{"publisher": []}]}
"""For a route that a publisher may call, though its tag is of other callers."""
LIMITED: Final = frozenset(("publish", "hooks"))
"""Tags of the calls that the publish rate limits."""
SECURITY: Final = {
    "publisher": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT for notifier:publish."},
    "administrator": {"type": "http", "scheme": "bearer", "description": "An API key with the scope `admin`."},
    "hook": {"type": "http", "scheme": "bearer", "description": "A key of the hook."},
    "hookPassword": {"type": "http", "scheme": "basic", "description": "Any user, and a key of the hook."},
    "hookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Grafana-Alerting-Signature",
        "description": "Of hooks for Grafana: the HMAC-SHA256 of the body by a key of the hook, in hexadecimal digits. "
        "With `X-Grafana-Alerting-Timestamp`, of the timestamp, a colon and the body.",
    },
    "subscriber": {"type": "http", "scheme": "bearer", "description": "A JWT for notifier:stream."},
    "subscriberCookie": {"type": "apiKey", "in": "cookie", "name": "notifier_token"},
    "subscriberQuery": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A short-lived token, for clients without header or cookie.",
    },
}


def operation_id(route: APIRoute) -> str:
    """A route's name in the document, after which generators name methods."""
    return route.name


def error_responses(*statuses: int, model: type[BaseModel] = answers.Problem) -> dict[int | str, dict[str, Any]]:
    """A route's refusals, for the document. Named only: FastAPI would build a validator for each, at every start."""
    content = {"application/problem+json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
    return {status: {"content": content} for status in statuses}


def body_of(kinds: Mapping[str, type[BaseModel] | dict[str, Any]], description: str = "") -> dict[str, Any]:
    """A route's request body by content type, for the document: the routes parse and check bodies themselves."""
    shapes = {
        kind: shape if isinstance(shape, dict) else {"$ref": REF.format(model=shape.__name__)}
        for kind, shape in kinds.items()
    }
    body: dict[str, Any] = {
        "required": True,
        "content": {kind: {"schema": schema} for kind, schema in shapes.items()},
    }
    if description:
        body["description"] = description
    return {"requestBody": body}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built once."""
    if app.openapi_schema is None:
        whole = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            servers=[dict(server) for server in SERVERS],
        )
        carried = [model for model, _ in STREAM_EVENTS.values()]
        shapes = schemas.plain(whole["components"]["schemas"]) | schemas.of_models((*BODIES, *carried))
        for path, calls in whole["paths"].items():
            for call in calls.values():
                _complete(path, call)
        whole["paths"]["/v1/stream"] = {"get": stream_call()}
        whole["components"] = {
            "schemas": {**{name: shapes[name] for name in sorted(shapes.keys() - _FASTAPIS)}, "BatchItem": BATCH_ITEM},
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": SECURITY,
        }
        for calls in whole["paths"].values():
            for call in calls.values():
                _name_headers(call)
        app.openapi_schema = whole
    return app.openapi_schema


def document_30(app: FastAPI) -> dict[str, Any]:
    """The same in version 3.0 of OpenAPI."""
    return converted(document(app))


_FASTAPIS: Final = frozenset(("HTTPValidationError", "ValidationError"))
"""Schemas of answers that never occur: the routes check bodies themselves."""


def _complete(path: str, call: dict[str, Any]) -> None:
    """Add what FastAPI cannot see in a route: its security, its header, the size of its numbers."""
    tags = call.get("tags", [])
    for parameter in call.get("parameters", ()):
        schema = parameter.get("schema", {})
        schema.pop("title", None)
        if schema.get("type") == "integer":
            schema["format"] = "int64"
    if "publish" in tags and path != "/v1/messages/{message_id}":  # a repeat of those changes nothing
        call["parameters"] = [*call.get("parameters", ()), IDEMPOTENCY_KEY]
    if "publish" in tags:
        call.setdefault("security", PUBLISHER["security"])
    elif "administration" in tags:
        call.setdefault("security", [{"administrator": []}])
    elif "user" in tags:
        call.setdefault("security", [{"subscriber": []}, {"subscriberCookie": []}])
    if path.startswith("/v1") and "requestBody" not in call and not call.get("parameters"):
        # The routes check bodies themselves: FastAPI's own 422 never occurs.
        call["responses"].pop("422", None)


def _name_headers(call: dict[str, Any]) -> None:
    """Add the headers of a call's answers."""
    if "security" not in call:
        return
    rate = ("RateLimit", "RateLimit-Policy") if not LIMITED.isdisjoint(call["tags"]) else ()
    for status, answer in call["responses"].items():
        names: tuple[str, ...] = {
            "401": ("WWW-Authenticate",),
            "403": ("WWW-Authenticate",),
            "503": ("Retry-After",),
        }.get(status, ())
        if status == "429":
            names = ("Retry-After", *rate)
        elif status.startswith("2"):
            names = rate
        if names:
            own = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
            answer["headers"] = {**answer.get("headers", {}), **own}
