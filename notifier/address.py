"""The public address of a service, as commands take it, and why nothing there answers as the service does.

Must not know: what is asked there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from notifier.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

SHOWN_CHARS: Final = 120
"""Of an answer that is none of the service's."""


def checked(url: str) -> str:
    """The address without a slash at its end. Raises `ConfigurationError` for what is no http or https address."""
    if re.match(r"https?://[^/?#]*@", url):  # they would take the place of the key, and are not to be shown
        raise ConfigurationError("the address has a user or password: the service takes the key of `--key` alone")
    if not re.match(r"https?://[^/?#@\s]+(/[^?#\s]*)?$", url):
        raise ConfigurationError(f"{url!r} is not an address such as https://example.org")
    return url.rstrip("/")


def reason(exc: Exception) -> str:
    """Why a call has no answer, in one line; where TLS is the reason, with what to do. Without the text of a header,
    which httpx quotes where it breaks the rules: it may be a secret."""
    text = str(exc) or type(exc).__name__
    if header := re.match(r"illegal header \w+", text, re.IGNORECASE):
        return header[0]
    if refused := re.search(r"certificate verify failed: (.*?)(?: \(_ssl|$)", text):
        authority = re.search(r"self-signed|issuer", refused[1])
        hint = "; SSL_CERT_FILE names the file of your own authority" if authority else ""
        return f"its certificate is not trusted: {refused[1]}{hint}"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return "it does not speak TLS: is its address http://?"
    return " ".join(text.split())


def problem(response: httpx.Response) -> str:
    """The status and the reason of an answer that is no success, in one line."""
    return f"{response.status_code}: {detail(response)}"


def detail(response: httpx.Response) -> str:
    """The reason that the service gives, in one line; or that another program answers."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        text = " ".join(re.sub(r"<head.*?</head>|<[^>]*>", " ", response.text, flags=re.DOTALL).split())
    if re.search(r"https (port|server)", text, re.IGNORECASE):
        return "it speaks TLS: its address is https://"
    return f"this is no answer of notifier: {text[:SHOWN_CHARS] or 'no text'}"
