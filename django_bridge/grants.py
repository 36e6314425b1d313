"""Grants: a page's signed permission to hear topics, and who may have it renewed.

The view that renders a topic is the first permission check. At a renewal the function of the topic's kind is asked: of
`NOTIFIER["LIVE"]`, or one with the decorator `live_permission`. Must not know: templates, requests.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import jwt
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Model
from django.utils.module_loading import import_string

from django_bridge.conf import settings
from django_bridge.event_loop import answer_of
from django_bridge.primary_keys import key_of
from django_bridge.recipients import user_id, user_name
from notifier.errors import NotAllowed

AUDIENCE: Final = "notifier:topics"
LIFE_S: Final = 300
"""How long a page hears a topic after the permission was last checked."""
RENEWABLE_S: Final = 3600
"""How long after its end a grant may be renewed: a laptop that was closed."""
MAX_TOPICS: Final = 50
"""Of one grant, by the wire contract."""

May = Callable[[Any, Any], bool | Awaitable[bool]]
F = TypeVar("F", bound=May)
_permissions: Final[dict[str, May]] = {}


def live_permission(kind: type[Model] | str) -> Callable[[F], F]:
    """A decorator: the function says whether a user may still see what pages show.

        @live_permission(Order)
        def sees_order(user, order): ...

    It may be `async def`. It gets the user and the model instance; for topics that are no model's, whose `kind` is the
    name up to the first colon, the rest of the name. Without a function for it a topic is not renewed: the page fetches
    again what shows it, and the view decides.
    """
    name = kind if isinstance(kind, str) else kind._meta.label_lower

    def register(function: F) -> F:
        _permissions[name] = function
        return function

    return register


def has_permissions(*, of_admin: bool = False) -> bool:
    """Whether the project registers a function with `live_permission`. of_admin: that of `PresenceAdmin` counts."""
    return any(of_admin or not kind.startswith("django_bridge.") for kind in _permissions)


def grant(user: Any, topics: Sequence[str], *, presence: bool = False) -> str:
    """A JWT by which the streams of `user` hear these topics (at most 50) for `LIFE_S`. The caller has checked that the
    user may see them.

    presence: others on these topics see the user, with its display name. Raises `ImproperlyConfigured` without a
    `JWT_SECRET`.
    """
    secrets = settings().jwt_secrets
    if not secrets:
        raise ImproperlyConfigured("NOTIFIER['JWT_SECRET'] is missing: it is the service's NOTIFIER_JWT_SECRET.")
    now = int(time.time())
    claims: dict[str, Any] = {"sub": user_id(user), "aud": AUDIENCE, "iat": now, "exp": now + LIFE_S}
    claims["topics"] = list(topics)
    if presence:
        claims |= {"presence": True, "name": user_name(user)}
    return jwt.encode(claims, secrets[0], algorithm="HS256")


def grants(user: Any, topics: Iterable[str], *, presence: bool = False) -> list[str]:
    """As many grants as the topics need."""
    names = list(dict.fromkeys(topics))
    parts = [names[start : start + MAX_TOPICS] for start in range(0, len(names), MAX_TOPICS)]
    return [grant(user, part, presence=presence) for part in parts]


@dataclass(slots=True)
class Renewal:
    """What became of the topics of some grants."""

    grants: list[str] = field(default_factory=list)
    """For the topics that the user may still see."""
    denied: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Topics without a function: the view that shows them decides."""


def renewed(user: Any, old: Iterable[str]) -> Renewal:
    """The grants of `user`, asked about again. Raises `NotAllowed` for one that is forged, too old or not theirs."""
    renewal = Renewal()
    allowed: list[str] = []
    seen: dict[str, bool] = {}
    for token in old:
        topics, presence = _topics(token, user_id(user))
        seen |= {name: presence or seen.get(name, False) for name in topics}
    for name in seen:
        may = _may(user, name)
        (renewal.unknown if may is None else allowed if may else renewal.denied).append(name)
    for presence in (False, True):
        renewal.grants += grants(user, [name for name in allowed if seen[name] is presence], presence=presence)
    return renewal


def _topics(token: str, user: str) -> tuple[Sequence[str], bool]:
    """The topics of a grant, and whether others see its user there."""
    try:
        claims = _claims(token)
        topics: Sequence[str] = claims["topics"]
    except (jwt.PyJWTError, KeyError) as exc:
        raise NotAllowed(f"the grant is not valid: {exc}", field="grants") from None
    if claims["sub"] != user:
        raise NotAllowed("the grant is another user's", field="grants")
    return topics, claims.get("presence") is True


def _may(user: Any, name: str) -> bool | None:
    """Whether the user may still see what the topic stands for; None if no function says so."""
    kind, _, rest = name.partition(":")
    path = settings().live.get(kind)
    may: May | None = import_string(path) if path else _permissions.get(kind)
    if may is None:
        return None
    try:
        model = apps.get_model(kind)
    except (LookupError, ValueError):
        return bool(answer_of(may, user, rest))
    try:
        shown = model._base_manager.filter(pk=key_of(model, rest)).first()
    except (ValueError, ValidationError):
        return False
    return shown is not None and bool(answer_of(may, user, shown))


def _claims(token: str) -> Mapping[str, Any]:
    """The claims of a grant that one of the secrets signed. Raises `PyJWTError`."""
    refusal: jwt.PyJWTError = jwt.InvalidKeyError("NOTIFIER['JWT_SECRET'] is missing")
    for secret in settings().jwt_secrets:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                audience=AUDIENCE,
                leeway=RENEWABLE_S,
                options={"require": ["exp", "sub", "aud"]},
            )
        except jwt.InvalidSignatureError as exc:
            refusal = exc
        else:
            return claims
    raise refusal
