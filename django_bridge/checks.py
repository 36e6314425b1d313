"""What `manage.py check` says about `NOTIFIER`. The rules are in `conf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.urls import NoReverseMatch, reverse

from django_bridge.conf import faults


def check_settings(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.E001`-`E021`: each wrong, missing or unknown key, with a hint."""
    raw = getattr(django_settings, "NOTIFIER", None)
    found: list[CheckMessage] = [
        Error(fault.text, hint=fault.hint, id=f"notifier.E{fault.number:03}") for fault in faults(raw)
    ]
    if isinstance(raw, Mapping) and "JWT_SECRET" not in raw:
        found.append(
            checks.Warning(
                "NOTIFIER['JWT_SECRET'] is missing: this project can publish, but gives no browser a token.",
                hint="Set it to the service's NOTIFIER_JWT_SECRET, or silence notifier.W001.",
                id="notifier.W001",
            )
        )
    return found


def check_urls(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W003`: pages that get a token, and no address where they could renew it."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if not isinstance(raw, Mapping) or "JWT_SECRET" not in raw or not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("django_bridge:token")
    except NoReverseMatch:
        return [
            checks.Warning(
                "django_bridge.urls is not included: a page that stays open cannot get its next token.",
                hint='Add path("notifier/", include("django_bridge.urls")), or silence notifier.W003.',
                id="notifier.W003",
            )
        ]
    return []


def check_deployment(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W002`, `W004`, with `check --deploy`: notifications that reach nobody, tokens that others can read."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if not isinstance(raw, Mapping):
        return []
    found: list[CheckMessage] = []
    if raw.get("TRANSPORT") == "memory":
        found.append(
            checks.Warning(
                "NOTIFIER['TRANSPORT'] is 'memory': notifications stay in this process and reach nobody.",
                hint="Use 'http' or 'redis' outside tests.",
                id="notifier.W002",
            )
        )
    seen = raw.get("PUBLIC_URL", raw.get("URL", ""))
    if "JWT_SECRET" in raw and isinstance(seen, str) and seen.startswith("http:"):
        found.append(
            checks.Warning(
                f"Browsers reach the service at {seen!r}: their tokens and messages can be read on the way.",
                hint="Set NOTIFIER['PUBLIC_URL'] to the https address that browsers use.",
                id="notifier.W004",
            )
        )
    return found
