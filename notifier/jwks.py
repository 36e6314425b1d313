"""The set of keys of an issuer (RFC 7517), which `NOTIFIER_JWKS_URL` names: fetched again as long as the process lives.

    at the start, each `REFRESH_S`, and soon after a token whose key is not there -> the keys of tokens (`keys`)

While the address does not answer, the last keys stay. Must not know: what is done with the keys.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import httpx
import jwt

from notifier.keys import Key, public_key

log = logging.getLogger("notifier.jwks")

REFRESH_S: Final = 300.0
RETRY_S: Final = 5.0
"""Until the next attempt after a failed one, and from one fetch to the next that a token asks for: unknown tokens
cannot make the service a burden to the issuer."""
TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 256 * 1024


class JwkSet:
    """The set at one address."""

    def __init__(self, url: str, replace: Callable[[Sequence[Key]], None]) -> None:
        self._url = url
        self._replace = replace
        self._lacking = asyncio.Event()
        self._failing = False

    def lacks(self) -> None:
        """A token is signed with a key that the set did not have: fetch it again, at most each `RETRY_S`."""
        self._lacking.set()

    async def fetch(self) -> bool:
        """Fetch the set once. False, and a line in the log for the first of several, if it cannot be had."""
        try:
            keys = _usable(await self._get())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError) as exc:
            log.log(
                logging.DEBUG if self._failing else logging.ERROR,
                "cannot load NOTIFIER_JWKS_URL, %s: %s; the keys stay as they were",
                self._url.partition("?")[0],
                str(exc) or type(exc).__name__,
            )
            self._failing = True
            return False
        if self._failing:
            log.info("NOTIFIER_JWKS_URL is loaded again: %d keys", len(keys))
        self._failing = False
        self._replace(keys)
        return True

    async def fetch_forever(self) -> None:
        """Fetch the set again and again. The first fetch is the caller's."""
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                async with asyncio.timeout(0 if self._failing else REFRESH_S - RETRY_S):
                    await self._lacking.wait()
            except TimeoutError:
                pass
            self._lacking.clear()
            await self.fetch()

    async def _get(self) -> Any:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise ValueError(f"it answers {response.status_code}")
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError(f"it has more than {MAX_BYTES} bytes")
            return json.loads(body)


def _usable(document: Any) -> list[Key]:
    """The keys of a set that tokens may be signed with. Raises ValueError if there is none."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is no JWK set: no list "keys"')
    keys = [key for entry in entries if isinstance(entry, dict) and (key := _key(entry)) is not None]
    if not keys:
        raise ValueError("it has no RSA, EC (P-256) or Ed25519 key for signatures")
    return keys


def _key(entry: dict[str, Any]) -> Key | None:
    """The public key of an entry; None for a key of another kind, or for another use."""
    if entry.get("use", "sig") != "sig":
        return None
    kid = entry.get("kid")
    try:
        return public_key(jwt.PyJWK(entry).key, kid if isinstance(kid, str) else None)
    except (jwt.PyJWTError, ValueError, TypeError) as exc:
        log.debug("NOTIFIER_JWKS_URL: the key %r is left out: %s", kid, type(exc).__name__)
        return None
