"""The system checks of `NOTIFIER`. The rules are in `conf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.urls import NoReverseMatch, reverse

from django_bridge.conf import problems


def check_settings(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.E001`-`E024`: each wrong, missing or unknown key, with a hint."""
    raw = getattr(django_settings, "NOTIFIER", None)
    messages: list[CheckMessage] = [
        Error(problem.text, hint=problem.hint, id=f"notifier.E{problem.number:03}") for problem in problems(raw)
    ]
    if isinstance(raw, Mapping) and "JWT_SECRET" not in raw:
        messages.append(
            checks.Warning(
                "NOTIFIER['JWT_SECRET'] is missing: this project can publish, but cannot issue tokens for browsers.",
                hint="Set it to the service's NOTIFIER_JWT_SECRET, or silence notifier.W001.",
                id="notifier.W001",
            )
        )
    return messages


def check_urls(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W003`: pages get a token, but there is no URL to renew it."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if not isinstance(raw, Mapping) or "JWT_SECRET" not in raw or not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("django_bridge:token")
    except NoReverseMatch:
        return [
            checks.Warning(
                "django_bridge.urls is not included: a page that stays open cannot renew its token.",
                hint='Add path("notifier/", include("django_bridge.urls")), or silence notifier.W003.',
                id="notifier.W003",
            )
        ]
    return []


def check_deployment(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W002`, `W004`, with `check --deploy`: the transport `memory` in production, tokens sent without TLS."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if not isinstance(raw, Mapping):
        return []
    messages: list[CheckMessage] = []
    if raw.get("TRANSPORT") == "memory":
        messages.append(
            checks.Warning(
                "NOTIFIER['TRANSPORT'] is 'memory': notifications stay in this process and reach no browser.",
                hint="Use 'http' or 'redis' outside tests.",
                id="notifier.W002",
            )
        )
    public_url = raw.get("PUBLIC_URL", raw.get("URL", ""))
    if "JWT_SECRET" in raw and isinstance(public_url, str) and public_url.startswith("http:"):
        messages.append(
            checks.Warning(
                f"Browsers reach the service at {public_url!r}: tokens and messages are sent without encryption.",
                hint="Set NOTIFIER['PUBLIC_URL'] to the https address that browsers use.",
                id="notifier.W004",
            )
        )
    return messages
