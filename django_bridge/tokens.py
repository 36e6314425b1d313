"""Subscriber tokens: JWTs with which a user's browser opens a stream.

Must not know: pages, requests.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jwt
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_bridge.conf import settings
from django_bridge.event_loop import answer_of, outside_loop
from django_bridge.recipients import user_id, user_name, user_of
from notifier import rules
from notifier.errors import InvalidInput, NotAllowed

AUDIENCE = "notifier:stream"


@outside_loop
def subscriber_token(
    user: Any, *, groups: Sequence[str] | None = None, cancels: bool = False, answers: bool = True
) -> str:
    """A JWT with which `user` (itself or its key) may open a stream for `NOTIFIER["TOKEN_TTL_S"]` seconds.

    groups: by default those of the user. cancels: the user may cancel every task that it sees, whatever `MAY_CANCEL`
    says. answers: False lets the user answer only tasks that were sent to it by name. Raises `ImproperlyConfigured`
    without a `JWT_SECRET`.
    """
    configured = settings()
    if not configured.jwt_secret:
        raise ImproperlyConfigured("NOTIFIER['JWT_SECRET'] is missing: it is the service's NOTIFIER_JWT_SECRET.")
    user = user_of(user)
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": user_id(user),
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + configured.token_ttl_s,
        "name": user_name(user),
        "groups": group_names(user) if groups is None else list(groups),
    }
    if cancels or (configured.may_cancel and answer_of(import_string(configured.may_cancel), user)):
        claims["cancel"] = True
    if not answers:
        claims["answers"] = False
    return jwt.encode(claims, configured.jwt_secrets[0], algorithm="HS256")


def channel_token(channel: str, *, holds_s: int = 60) -> str:
    """A JWT, valid for `holds_s` seconds, with which this project reads a channel. Raises `NotAllowed` without a
    `JWT_SECRET`."""
    secrets = settings().jwt_secrets
    if not secrets:
        raise NotAllowed("NOTIFIER['JWT_SECRET'] is missing")
    kind, _, name = channel.partition(":")
    now = int(time.time())
    claims = {"sub": name if kind == "user" else "-", "aud": AUDIENCE, "iat": now, "exp": now + holds_s}
    return jwt.encode({**claims, "groups": [name] if kind == "group" else []}, secrets[0], algorithm="HS256")


def group_names(user: Any) -> list[str]:
    """The names of a user's groups: the result of the function `NOTIFIER["GROUPS"]`, else its Django groups without
    those whose names no channel can have (over 128 characters). Raises `InvalidInput` for a bad name of that function.
    """
    if path := settings().groups:
        return [rules.name(name, "group") for name in import_string(path)(user)]
    if not hasattr(user, "groups"):  # a user model without PermissionsMixin
        return []
    return [name for name in user.groups.order_by("name").values_list("name", flat=True) if _is_name(name)]


def _is_name(name: str) -> bool:
    try:
        rules.name(name, "group")
    except InvalidInput:
        return False
    return True
