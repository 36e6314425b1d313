"""What `manage.py check` says about `NOTIFIER`. The rules are in `conf`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error

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


def check_deployment(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W002`, with `check --deploy`: notifications that reach nobody."""
    raw = getattr(django_settings, "NOTIFIER", None)
    if not isinstance(raw, Mapping) or raw.get("TRANSPORT") != "memory":
        return []
    return [
        checks.Warning(
            "NOTIFIER['TRANSPORT'] is 'memory': notifications stay in this process and reach nobody.",
            hint="Use 'http' or 'redis' outside tests.",
            id="notifier.W002",
        )
    ]
