"""The public address of a service, as commands take it.

Must not know: what is asked there.
"""

from __future__ import annotations

import re

from notifier.errors import ConfigurationError


def checked(url: str) -> str:
    """The address without a slash at its end. Raises `ConfigurationError` for what is no http or https address."""
    if not re.match(r"https?://[^/?#@\s]+(/[^?#\s]*)?$", url):
        raise ConfigurationError(f"{url!r} is not an address such as https://example.org")
    return url.rstrip("/")
