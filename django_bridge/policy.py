"""The project's Content-Security-Policy: which addresses its pages may connect to.

Must not know: `NOTIFIER`, checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.http import is_same_domain

_DIRECTIVES: Final = ("connect-src", "default-src")
"""The directive for `fetch`, and the one that stands for it where it is missing (CSP 3, 6.1.2)."""


def connect_sources() -> list[str] | None:
    """The sources of `connect-src`; None without a policy, or where the policy does not restrict connections.

    Read from the settings of Django 6 (`SECURE_CSP`) and of django-csp (`CONTENT_SECURITY_POLICY`, before its version 4
    `CSP_CONNECT_SRC`).
    """
    for directives in (_mapping("SECURE_CSP"), _mapping("CONTENT_SECURITY_POLICY").get("DIRECTIVES"), _old_settings()):
        for name in _DIRECTIVES:
            if isinstance(directives, Mapping) and directives.get(name) is not None:
                return _texts(directives[name])
    return None


def allows(sources: Iterable[str], url: str) -> bool:
    """Whether pages with these sources may connect to an http(s) address. `'self'` stands for `ALLOWED_HOSTS`."""
    parts = urlsplit(url)
    return any(_matches(source, parts.scheme, parts.hostname or "", parts.port) for source in sources)


def _matches(source: str, scheme: str, host: str, port: int | None) -> bool:
    if source == "'self'":
        return any(name == "*" or is_same_domain(host, name) for name in settings.ALLOWED_HOSTS)
    if source in ("*", f"{scheme}:"):
        return True
    wanted = urlsplit(source if "://" in source else f"{scheme}://{source}")
    try:
        number: int | str | None = wanted.port
    except ValueError:  # "example.org:*"
        number = "*"
    name = wanted.hostname or ""
    is_host = host.endswith(name[1:]) if name.startswith("*.") else host == name
    usual = {"http": 80, "https": 443}.get(scheme)
    return wanted.scheme == scheme and is_host and (number == "*" or (number or usual) == (port or usual))


def _mapping(name: str) -> Mapping[str, Any]:
    value = getattr(settings, name, None)
    return value if isinstance(value, Mapping) else {}


def _old_settings() -> dict[str, Any]:
    return {name: getattr(settings, "CSP_" + name.upper().replace("-", "_"), None) for name in _DIRECTIVES}


def _texts(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(item) for item in value]
