"""Authentication: a token or a key becomes a `Subscriber` or a `Publisher`.

JWT by RFC 7519 with a fixed list of algorithms for each kind of key, so that neither `alg: none` nor a public key used
as an HMAC secret is ever accepted. Must not know: HTTP routes, brokers.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from notifier import rules
from notifier.errors import ConfigurationError, InvalidInput, NotAllowed, Unauthenticated
from notifier.settings import ApiKey

STREAM: Final = "notifier:stream"
PUBLISH: Final = "notifier:publish"
LEEWAY_S: Final = 5
"""Tolerated difference between two machines' clocks."""
MAX_GROUPS: Final = 64
"""Groups of one token. Each is a channel that every stream of the user subscribes to."""
MAX_TOKEN_CHARS: Final = 8192


@dataclass(frozen=True, slots=True)
class Subscriber:
    """The user of a stream or an inbox."""

    user: str
    name: str | None
    channels: tuple[str, ...]
    """`user:<id>`, then the token's groups, then `all`."""
    expires_at: float
    """Unix time."""

    def hears(self, channels: tuple[str, ...]) -> bool:
        """True if the user may hear at least one of these channels."""
        return any(channel in self.channels for channel in channels)


@dataclass(frozen=True, slots=True)
class Publisher:
    """A publisher: a name for limits and idempotency keys (never the key itself), and its scopes."""

    name: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raises `NotAllowed` without this scope."""
        if scope not in self.scopes:
            raise NotAllowed(f"these credentials lack the scope {scope!r}")


class Authenticator:
    """Checks tokens and keys against the settings."""

    def __init__(self, *, secret: str, public_key: str, issuer: str, api_keys: tuple[ApiKey, ...]) -> None:
        self._issuer = issuer or None
        self._api_keys = {_digest(key): Publisher(f"key:{_digest(key)[:12]}", key.scopes) for key in api_keys}
        self._verifiers: list[tuple[Any, list[str]]] = []
        if secret:
            self._verifiers.append((secret, ["HS256"]))
        if public_key:
            self._verifiers.append(verifier(public_key))

    def subscriber(self, token: str) -> Subscriber:
        """The user of a token with `aud` = `notifier:stream`. Raises `Unauthenticated`."""
        claims = self._claims(token, STREAM)
        try:
            user = rules.name(claims.get("sub"), "sub")
            name = claims.get("name")
            if name is not None:
                name = rules.text(name, "name", max_chars=rules.MAX_TITLE_CHARS)
            groups = claims.get("groups") or []
            if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
                raise InvalidInput(f"must be a list of at most {MAX_GROUPS} names", field="groups")
            named = tuple(dict.fromkeys(rules.name(group, f"groups[{i}]") for i, group in enumerate(groups)))
        except InvalidInput as exc:
            raise Unauthenticated(f"the token's claim {exc}", code="invalid_token") from None
        channels = (f"user:{user}", *(f"group:{group}" for group in named), "all")
        return Subscriber(user, name, channels, float(min(int(claims["exp"]), rules.MAX_WHOLE)))

    def publisher(self, credential: str) -> Publisher:
        """The publisher of an API key, or of a token with `aud` = `notifier:publish`. Raises `Unauthenticated`."""
        wanted = _digest(credential)
        for digest, publisher in self._api_keys.items():
            if hmac.compare_digest(digest, wanted):
                return publisher
        if credential.count(".") != 2:
            raise Unauthenticated("unknown API key", code="invalid_token")
        claims = self._claims(credential, PUBLISH)
        scopes = frozenset(str(claims.get("scope") or "publish").split())
        return Publisher(f"jwt:{claims.get('sub') or claims.get('iss') or ''}", scopes)

    def _claims(self, token: str, audience: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated("the token is too long", code="invalid_token")
        refusal: Exception = jwt.InvalidTokenError("no key is configured")
        for key, algorithms in self._verifiers:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=algorithms,
                    audience=audience,
                    issuer=self._issuer,
                    leeway=LEEWAY_S,
                    options={"require": ["exp", "aud", "sub"] if audience == STREAM else ["exp", "aud"]},
                )
            except jwt.ExpiredSignatureError:
                raise Unauthenticated("the token has expired", code="invalid_token") from None
            except jwt.InvalidAudienceError:
                raise Unauthenticated(f"the token's audience is not {audience!r}", code="invalid_token") from None
            except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as exc:
                refusal = exc
        raise Unauthenticated(f"invalid token: {refusal}", code="invalid_token") from None


def subscriber_token(secret: str, user: str, *, ttl_s: int = 3600, **claims: Any) -> str:
    """A token for `user`'s streams and inbox, signed with HS256. Raises `InvalidInput` for a bad user id."""
    now = int(time.time())
    body = {"sub": rules.name(user, "sub"), "aud": STREAM, "iat": now, "exp": now + ttl_s}
    return jwt.encode({**claims, **body}, secret, algorithm="HS256")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def verifier(pem: str) -> tuple[Any, list[str]]:
    """Load a public key in PEM; return it with the algorithms allowed for it. Raises `ConfigurationError`."""
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except ValueError as exc:
        raise ConfigurationError(f"NOTIFIER_JWT_PUBLIC_KEY is not a PEM public key: {exc}") from None
    if isinstance(key, RSAPublicKey):
        return key, ["RS256"]
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, ["ES256"]
    if isinstance(key, Ed25519PublicKey):
        return key, ["EdDSA"]
    raise ConfigurationError("NOTIFIER_JWT_PUBLIC_KEY must be an RSA, EC (P-256) or Ed25519 key")
