"""POST /v1/hooks/{name}: what other systems post becomes a message to the hook's recipients.

Must not know: how a body of each kind becomes a message (`notifier.hooks`), how brokers store messages.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier import parsing, rules
from notifier.api.answers import Published
from notifier.api.http import fingerprint, head_of, object_of, own_key, read_body, response, validate
from notifier.api.openapi import IDEMPOTENCY_KEY, error_responses
from notifier.api.publishing import Publishing
from notifier.auth import Publisher
from notifier.broker.values import Idempotency
from notifier.call import Answer, RequestHead, media_type
from notifier.errors import NotFound, NotifierError, Unauthenticated
from notifier.hook import Hook, Hooks
from notifier.hooks import alerts, ntfy

SIGNATURE: Final = "X-Grafana-Alerting-Signature"
SIGNED_AT: Final = "X-Grafana-Alerting-Timestamp"
"""The time that the signature covers, where the contact point's `timestampHeader` has this name."""
KIND: Final = "hook"
"""Of these calls in metrics and traces."""
MAX_BYTES: Final = {"ntfy": rules.MAX_BODY_BYTES}
"""By kind; the others take as much as a batch: a group may have hundreds of alerts."""

router = APIRouter(
    prefix="/v1",
    tags=["hooks"],
    responses=error_responses(400, 401, 404, 413, 415, 422, 429, 503),
)

_BODY: dict[str, Any] = {
    "security": [{"hook": []}, {"hookPassword": []}, {"hookSignature": []}],
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "description": "What Alertmanager (webhook version 4) or Grafana posts, or a post in the form of ntfy.",
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": True}},
            "text/plain": {"schema": {"type": "string"}},
        },
    },
}


@router.post(
    "/hooks/{name}",
    summary="Post what another system says",
    responses={200: {"model": Published}},
    openapi_extra=_BODY,
)
async def post_hook(request: Request, name: str) -> Response:
    """Send a message to the recipients of the hook `name` (NOTIFIER_HOOKS), from the sender's own form. The hook's key
    is the bearer token or the password of basic authentication; Grafana may sign the body instead."""
    hooks: Hooks = request.app.state.hooks
    publishing: Publishing = request.app.state.publishing
    hook = hooks.find(name)
    try:
        if hook is None:
            raise NotFound(f"there is no hook {rules.shown(name)}", field="name")
        body = await _authentic_body(request, hook)
        who = Publisher(f"hook:{hook.name}", frozenset(("publish",)))
        answer = request.app.state.tracing.call(KIND, partial(_send, request, hook))(who, head_of(request), body)
    except NotifierError as exc:
        publishing.note(KIND, exc)
        raise
    return response(await answer if inspect.isawaitable(answer) else answer)


def _send(request: Request, hook: Hook, who: Publisher, _head: RequestHead, body: bytes) -> Answer | Awaitable[Answer]:
    """Publish what the body says; the call counts itself from there on."""
    publishing: Publishing = request.app.state.publishing
    headers = publishing.limit.take(who.name)
    if hook.kind == "ntfy":
        fields, idem = ntfy.message(_ntfy_post(request, body), hook.name), None
        if key := request.headers.get("idempotency-key"):
            idem = Idempotency(own_key(who, "header", key), fingerprint(fields))
    else:
        form = alerts.VersionedGroup if hook.kind == "alertmanager" else alerts.AlertGroup
        group = validate(form, object_of(parsing.parse_json(body)))
        fields, digest = alerts.message(group, hook.name), alerts.notification_digest(group)
        idem = Idempotency(own_key(who, "alerts", digest), digest)
    return publishing.send(who, {**fields, "to": list(hook.to)}, idem, headers, KIND)


async def _authentic_body(request: Request, hook: Hook) -> bytes:
    """The body, of a caller that has a key of the hook. Raises `Unauthenticated`."""
    max_bytes = MAX_BYTES.get(hook.kind, rules.MAX_BATCH_BYTES)
    signature = request.headers.get(SIGNATURE)
    if hook.kind == "grafana" and signature is not None:
        body = await read_body(request, max_bytes)
        sent_at = request.headers.get(SIGNED_AT, "")
        if not hook.has_signed(body, signature, sent_at, time.time()):
            raise Unauthenticated(f"{SIGNATURE} is not the signature of this body, or is too old", code="invalid_token")
        if not sent_at:
            hooks: Hooks = request.app.state.hooks
            hooks.note_untimed(hook)
        return body
    key = _key(request.headers.get("authorization"))
    if key is None:
        signed = f", or {SIGNATURE}" if hook.kind == "grafana" else ""
        raise Unauthenticated(f"the hook's key is required: 'Authorization: Bearer <key>' or Basic{signed}")
    if not hook.has_key(key):
        raise Unauthenticated("the key is not one of this hook", code="invalid_token")
    return await read_body(request, max_bytes)


def _key(header: str | None) -> str | None:
    """The key of an Authorization header: a bearer token, or the password of any user."""
    kind, _, value = (header or "").partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value or None
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _ntfy_post(request: Request, body: bytes) -> ntfy.NtfyPost:
    if media_type(request.headers.get("content-type", "")) == "application/json":
        return validate(ntfy.NtfyPost, object_of(parsing.parse_json(body)))
    raw = dict(reversed(request.headers.raw))
    return ntfy.from_text(body, lambda name: raw.get(name.encode()), request.query_params.get)
