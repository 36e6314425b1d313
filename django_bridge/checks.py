"""The system checks of `NOTIFIER`. The rules are in `conf`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings as django_settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.middleware.locale import LocaleMiddleware
from django.template.autoreload import get_template_directories
from django.utils.module_loading import import_string

from django_bridge import grants, live_signals, middleware, page, policy
from django_bridge.conf import raw_settings
from django_bridge.conf_rules import problems

LIVE_TAG: Final = re.compile(r"{%\s*(?:live|live_rows|presence)\s")
LOADED: Final = re.compile(r"{%\s*load\s[^%]*\bnotifier\b")


def check_settings(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.E001`-`E031`: each wrong, missing or unknown key, with a hint."""
    raw = raw_settings()
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
    """`notifier.W003`: pages get a token or grants, but there is no URL to renew these."""
    raw = raw_settings()
    if not isinstance(raw, Mapping) or "JWT_SECRET" not in raw or not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    if page.token_url() is None:
        problem = "a page that stays open cannot renew its token."
    elif page.grants_url() is None and (
        _is_live(raw) or grants.has_permissions(of_admin=True) or _reads_cursors() or _templates_are_live()
    ):
        problem = "a live page cannot renew its grants, so it fetches each live part again every four minutes."
    else:
        return []
    return [
        checks.Warning(
            f"django_bridge.urls is not included: {problem}",
            hint='Add path("notifier/", include("django_bridge.urls")), or silence notifier.W003.',
            id="notifier.W003",
        )
    ]


def check_live(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W007`: pages are live, and do not know how new their data are."""
    raw = raw_settings()
    if not isinstance(raw, Mapping) or "JWT_SECRET" not in raw:
        return []
    if not _is_live(raw) or _reads_cursors():
        return []
    return [
        checks.Warning(
            "django_bridge.middleware.live is missing: each live part is fetched once more after the page has loaded.",
            hint="Add it to MIDDLEWARE, below AuthenticationMiddleware. Pages that show only who is present do "
            "without it: silence notifier.W007.",
            id="notifier.W007",
        )
    ]


def _is_live(raw: Mapping[str, Any]) -> bool:
    """Whether the project says of some model or topic that pages show it live."""
    return bool(raw.get("LIVE")) or grants.has_permissions() or live_signals.is_used()


def _reads_cursors() -> bool:
    return any(_class_of(path) is middleware.live for path in getattr(django_settings, "MIDDLEWARE", None) or ())


def _templates_are_live() -> bool:
    """Whether a template of the project has a tag that prints grants. Reads the files of all its templates."""
    own = Path(__file__).parent
    folders = [folder for folder in get_template_directories() if not folder.is_relative_to(own)]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return any(LIVE_TAG.search(text) and LOADED.search(text) for text in map(_text, paths))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def check_live_models(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W008`: `live_model` decorates an abstract model."""
    return [
        checks.Warning(
            f"{name} is abstract and has no rows: live_model does nothing for it.",
            hint="Decorate the models that inherit from it, or silence notifier.W008.",
            id="notifier.W008",
        )
        for name in live_signals.abstract_models()
    ]


def check_deployment(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """`notifier.W002`, `W004`-`W006`, with `check --deploy`: the transport `memory` in production, tokens sent without
    TLS, a policy that blocks the connection, pages without a user."""
    raw = raw_settings()
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
    if "JWT_SECRET" in raw:
        messages += [*_policy_problems(public_url), *_middleware_problems()]
    return messages


def _policy_problems(public_url: object) -> Sequence[CheckMessage]:
    sources = policy.connect_sources()
    if sources is None or not isinstance(public_url, str) or not public_url or policy.allows(sources, public_url):
        return []
    return [
        checks.Warning(
            f"The Content-Security-Policy blocks the connection to {public_url!r}: connect-src is {' '.join(sources)}.",
            hint="Add the service's origin to connect-src, or silence notifier.W005.",
            id="notifier.W005",
        )
    ]


def _middleware_problems() -> Sequence[CheckMessage]:
    classes = [_class_of(path) for path in getattr(django_settings, "MIDDLEWARE", None) or ()]
    first = {kind: _first(classes, kind) for kind in (SessionMiddleware, AuthenticationMiddleware, LocaleMiddleware)}
    session, authentication, locale = first.values()
    if authentication is None:
        problem = "AuthenticationMiddleware is missing: pages have no user, so {% notifier %} adds nothing."
    elif session is None or session > authentication:
        problem = "AuthenticationMiddleware comes before SessionMiddleware: pages have no user."
    elif locale is not None and locale < session:
        problem = "LocaleMiddleware comes before SessionMiddleware: the widgets' language may not be the user's."
    else:
        return []
    hint = "The order is SessionMiddleware, LocaleMiddleware, AuthenticationMiddleware; or silence notifier.W006."
    return [checks.Warning(problem, hint=hint, id="notifier.W006")]


def _class_of(path: str) -> object:
    try:
        return import_string(path)
    except ImportError:
        return None


def _first(classes: Sequence[object], kind: type) -> int | None:
    """The place of the first middleware of this class or a subclass."""
    places = [
        place
        for place, middleware in enumerate(classes)
        if isinstance(middleware, type) and issubclass(middleware, kind)
    ]
    return min(places, default=None)
