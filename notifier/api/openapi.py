"""The OpenAPI document: FastAPI's own, plus the request bodies that the routes parse themselves, and the stream.

Must not know: what the routes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from notifier.api import answers, bodies
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
)
REF = "#/components/schemas/{model}"


PROBLEMS = [{"$ref": REF.format(model=model.__name__)} for model in (answers.Problem, answers.BatchProblem)]
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body give the same response for 5 minutes; another body under it is a 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


GRANT = {
    "name": "grant",
    "in": "query",
    "required": False,
    "description": "A grant of topics, which are heard from the start; at most 20, with 6 KiB together.",
    "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
}


def body_of(kinds: Mapping[str, type[BaseModel] | dict[str, Any]], description: str = "") -> dict[str, Any]:
    """A route's request body by content type, for the document: the routes parse and check bodies themselves."""
    schemas = {
        kind: shape if isinstance(shape, dict) else {"$ref": REF.format(model=shape.__name__)}
        for kind, shape in kinds.items()
    }
    body: dict[str, Any] = {
        "required": True,
        "content": {kind: {"schema": schema} for kind, schema in schemas.items()},
    }
    if description:
        body["description"] = description
    return {"requestBody": body}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, built once."""
    if app.openapi_schema is None:
        whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        carried = [model for model, _ in STREAM_EVENTS.values() if model is not None]
        _, shapes = models_json_schema([(model, "validation") for model in (*BODIES, *carried)], ref_template=REF)
        components = whole.setdefault("components", {})
        components.setdefault("schemas", {}).update(shapes.get("$defs", {}))
        components["securitySchemes"] = {
            "publisher": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, or a JWT for notifier:publish.",
            },
            "subscriber": {"type": "http", "scheme": "bearer", "description": "A JWT for notifier:stream."},
            "subscriberCookie": {"type": "apiKey", "in": "cookie", "name": "notifier_token"},
        }
        for path, calls in whole["paths"].items():
            for call in calls.values():
                _complete(path, call)
        whole["paths"]["/v1/stream"] = {"get": _stream()}
        app.openapi_schema = whole
    return app.openapi_schema


def _complete(path: str, call: dict[str, Any]) -> None:
    """Add what FastAPI cannot see in a route: its security, its header, the form of its errors."""
    tags = call.get("tags", [])
    if "publish" in tags and path != "/v1/messages/{message_id}":  # a repeat of those changes nothing
        call["parameters"] = [*call.get("parameters", ()), IDEMPOTENCY_KEY]
    if "publish" in tags or "administration" in tags:
        call["security"] = [{"publisher": []}]
    elif "user" in tags:
        call.setdefault("security", [{"subscriber": []}, {"subscriberCookie": []}])
    if path.startswith("/v1") and "requestBody" not in call and not call.get("parameters"):
        # The routes check bodies themselves: FastAPI's own 422 never occurs.
        call["responses"].pop("422", None)
    for answer in call["responses"].values():
        content = answer.get("content", {})
        if content.get("application/json", {}).get("schema") in PROBLEMS:
            answer["content"] = {"application/problem+json": content["application/json"]}


def _stream() -> dict[str, Any]:
    lines = ["A Server-Sent Events stream. Its events:", "", "| event | id | data |", "|---|---|---|"]
    for name, (model, has_id) in STREAM_EVENTS.items():
        lines.append(f"| `{name}` | {'yes' if has_id else 'no'} | {_fields(model)} |")
    lines += ["| any other | as published | the `data` of `POST /v1/events` |", ""]
    lines.append("The first event of a stream has an id, whatever it is: where the client stands.")
    lines.append("Reconnect with the last id in `Last-Event-ID`. Limits respond 200 with `retry:` and `bye`.")
    query = {"in": "query", "required": False, "schema": {"type": "string"}}
    return {
        "tags": ["stream"],
        "summary": "Listen",
        "description": "\n".join(lines),
        "operationId": "stream",
        "security": [{"subscriber": []}, {"subscriberCookie": []}],
        "parameters": [
            {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}},
            *(
                {"name": name, **query, "description": "The cursor, for clients that cannot set the header."}
                for name in ("last_event_id", "lastEventId", "lastEventID")
            ),
            {
                "name": "format",
                "in": "query",
                "required": False,
                "schema": {"type": "string", "enum": ["text", "turbo"]},
                "description": "`text`: published JSON strings are written as their text. `turbo`: also no messages.",
            },
            GRANT,
            {
                "name": "token",
                **query,
                "description": "A short-lived token, for clients without header or cookie.",
            },
        ],
        "responses": {
            "200": {
                "description": "The stream; it ends with `bye`.",
                "content": {
                    "text/event-stream": {
                        "schema": {"type": "string"},
                        "x-events": {
                            name: {"$ref": REF.format(model=model.__name__)} if model else {}
                            for name, (model, _) in STREAM_EVENTS.items()
                        },
                    }
                },
            },
            "401": {
                "description": "No token, or an invalid one.",
                "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
            },
        },
    }


def _fields(model: type[BaseModel] | None) -> str:
    if model is None:
        return "`{}`"
    names = ", ".join(f"`{field.alias or name}`" for name, field in model.model_fields.items())
    summary = (model.__doc__ or "").strip().split("\n")[0]
    return f"{names}. {summary}".replace("|", "\\|")
