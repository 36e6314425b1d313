"""`GET /v1/stream` in the OpenAPI document: it is no route of FastAPI's.

Must not know: how streams are opened.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from notifier.api.schemas import REF
from notifier.api.stream_events import STREAM_EVENTS

CURSOR: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that the client has. Clients that cannot set the header send it in the "
    "query, as `last_event_id` (`lastEventId` and `lastEventID` are the same); the header wins.",
    "schema": {"type": "string"},
}
_REFUSALS: Final = {
    "401": "No token, or an invalid one.",
    "403": "A grant is for another user.",
    "409": "The stream would hear too many topics.",
    "422": "A grant cannot be read, or there are too many.",
    "503": "The keys of tokens were never loaded.",
}


def stream_call() -> dict[str, Any]:
    """The operation, with every answer that it has."""
    return {
        "tags": ["stream"],
        "summary": "Listen",
        "description": _description(),
        "operationId": "stream",
        "security": [{"subscriber": []}, {"subscriberCookie": []}, {"subscriberQuery": []}],
        "parameters": [
            {"$ref": "#/components/parameters/Cursor"},
            {
                "name": "format",
                "in": "query",
                "required": False,
                "schema": {"type": "string", "enum": ["text", "turbo"]},
                "description": "`text`: published JSON strings are written as their text. `turbo`: also no messages.",
            },
            {"$ref": "#/components/parameters/Grant"},
        ],
        "responses": {"200": _stream(), **{status: _refusal(reason) for status, reason in _REFUSALS.items()}},
    }


def _description() -> str:
    lines = ["A Server-Sent Events stream. Its events:", "", "| event | id | data |", "|---|---|---|"]
    for name, (model, has_id) in STREAM_EVENTS.items():
        lines.append(f"| `{name}` | {'yes' if has_id else 'no'} | {_fields(model)} |")
    lines += ["| any other | as published | the `data` of `POST /v1/events` |", ""]
    lines.append("The first event of a stream has an id, whatever it is: where the client stands.")
    lines.append("Reconnect with the last id in `Last-Event-ID`. Limits respond 200 with `retry:` and `bye`, because a")
    lines.append("native EventSource never reconnects after any other status.")
    lines.append("The schema of each event is a file of its own: `/schemas/<event>.json`.")
    return "\n".join(lines)


def _fields(model: type[BaseModel]) -> str:
    names = ", ".join(f"`{field.alias or name}`" for name, field in model.model_fields.items())
    summary = (model.__doc__ or "").strip().split("\n")[0]
    return f"{names or '`{}`'}. {summary}".replace("|", "\\|")


def _stream() -> dict[str, Any]:
    return {
        "description": "The stream; it ends with `bye`.",
        "headers": {
            "Cache-Control": {"schema": {"type": "string"}, "description": "`no-store, no-transform`."},
            "X-Accel-Buffering": {"schema": {"type": "string"}, "description": "`no`: nginx keeps nothing back."},
        },
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "x-events": {name: {"$ref": REF.format(model=model.__name__)} for name, (model, _) in _EVENTS},
            }
        },
    }


_EVENTS: Final = tuple(STREAM_EVENTS.items())


def _refusal(reason: str) -> dict[str, Any]:
    return {
        "description": reason,
        "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
    }
