"""The subscriber's token: what lets a user's browser listen.

Must not know: pages, requests.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_bridge.conf import settings
from django_bridge.recipients import user_id, user_name
from notifier import rules
from notifier.errors import InvalidInput, NotAllowed

AUDIENCE = "notifier:stream"


def subscriber_token(user: Any) -> str:
    """A JWT with which `user` may open a stream for `NOTIFIER["TOKEN_TTL_S"]` seconds, groups included.

    Raises `ImproperlyConfigured` without a `JWT_SECRET`.
    """
    found = settings()
    if not found.jwt_secret:
        raise ImproperlyConfigured("NOTIFIER['JWT_SECRET'] is missing: it is the service's NOTIFIER_JWT_SECRET.")
    now = int(time.time())
    claims = {
        "sub": user_id(user),
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + found.token_ttl_s,
        "name": user_name(user),
        "groups": group_names(user),
    }
    return jwt.encode(claims, found.jwt_secret, algorithm="HS256")


def channel_token(channel: str, *, holds_s: int = 60) -> str:
    """A JWT with which this project itself reads what a channel's users see. Raises `NotAllowed` without a secret."""
    secret = settings().jwt_secret
    if not secret:
        raise NotAllowed("NOTIFIER['JWT_SECRET'] is missing")
    kind, _, name = channel.partition(":")
    now = int(time.time())
    claims = {"sub": name if kind == "user" else "-", "aud": AUDIENCE, "iat": now, "exp": now + holds_s}
    return jwt.encode({**claims, "groups": [name] if kind == "group" else []}, secret, algorithm="HS256")


def group_names(user: Any) -> list[str]:
    """The names of the groups that a user hears: what the function of `NOTIFIER["GROUPS"]` says, else those of its
    Django groups that a channel can have (128 characters). Raises `InvalidInput` for a name of that function's."""
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
