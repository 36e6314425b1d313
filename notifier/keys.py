"""The keys that tokens are signed with, and the claims of a token that is signed with one of them.

    NOTIFIER_JWT_SECRET, NOTIFIER_JWT_PUBLIC_KEY    the same until a reload
    NOTIFIER_JWKS_URL                               a set that is fetched again and again (`jwks`)

JWT by RFC 7519 with a fixed list of algorithms for each kind of key, so that neither `alg: none` nor a public key used
as an HMAC secret is ever accepted. Must not know: what the claims mean, where a set comes from.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from notifier import rules
from notifier.errors import ConfigurationError, KeysUnavailable, Unauthenticated

LEEWAY_S: Final = 5
"""Tolerated difference between two machines' clocks."""
MAX_TOKEN_CHARS: Final = 8192
MAX_LIFE_S: Final = 3653 * 24 * 3600
"""A token that ends later is refused: its `exp` most likely counts milliseconds, and it would never end."""
HMAC_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Least size of a secret for each algorithm (RFC 7518, 3.2)."""
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Key:
    """What verifies signatures, and the algorithms allowed for it."""

    value: Any
    algorithms: tuple[str, ...]
    kid: str | None = None
    """The name of the key in a set (RFC 7517, 4.5)."""


class PreparedHmac(HMACAlgorithm):
    """PyJWT's HMAC, which checks once for each secret that it is no public key, and not for each token."""

    def __init__(self, hash_alg: Any) -> None:
        super().__init__(hash_alg)
        self._prepared: dict[str | bytes, bytes] = {}

    def prepare_key(self, key: str | bytes) -> bytes:
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = super().prepare_key(key)
        return prepared


def _prepare_secrets_once() -> None:
    """Make PyJWT use `PreparedHmac`."""
    for name, hash_alg in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        jwt.unregister_algorithm(name)
        jwt.register_algorithm(name, PreparedHmac(hash_alg))


def fixed_keys(secrets: Sequence[str], pems: str) -> tuple[Key, ...]:
    """The keys of the settings, in order. Raises `ConfigurationError` for a public key of an unsupported kind."""
    if secrets:
        _prepare_secrets_once()
    return (*map(_secret, secrets), *map(_public, _blocks(pems)))


def _blocks(pems: str) -> Sequence[str]:
    """The PEM blocks of a text. Raises `ConfigurationError` if it has anything else, such as a block that is cut."""
    if _PEM.sub("", pems).replace("\\n", "").strip():
        raise ConfigurationError("NOTIFIER_JWT_PUBLIC_KEY is not a PEM public key, or several")
    return _PEM.findall(pems)


def _secret(secret: str) -> Key:
    size = len(secret.encode())
    return Key(secret, tuple(name for name, least in HMAC_BYTES.items() if size >= least))


def _public(pem: str) -> Key:
    try:
        value = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except ValueError as exc:
        raise ConfigurationError(f"NOTIFIER_JWT_PUBLIC_KEY is not a PEM public key: {exc}") from None
    key = public_key(value)
    if key is None:
        raise ConfigurationError("NOTIFIER_JWT_PUBLIC_KEY must be an RSA, EC (P-256) or Ed25519 key")
    return key


def public_key(value: object, kid: str | None = None) -> Key | None:
    """A public key with the algorithms allowed for it; None for another kind of key."""
    if isinstance(value, RSAPublicKey):
        return Key(value, ("RS256",), kid)
    if isinstance(value, EllipticCurvePublicKey) and isinstance(value.curve, SECP256R1):
        return Key(value, ("ES256",), kid)
    if isinstance(value, Ed25519PublicKey):
        return Key(value, ("EdDSA",), kid)
    return None


class _UnknownKey(jwt.InvalidTokenError):
    """None of the keys may have signed a token."""


class TokenKeys:
    """All keys, and the `iss` that tokens must have."""

    def __init__(self, fixed: Sequence[Key], issuer: str) -> None:
        self._fixed = tuple(fixed)
        self._issuer = issuer or None
        self._set: tuple[Key, ...] = ()
        self.lacks: Callable[[], None] | None = None
        """Called for a token that is signed with a key that is not here, where there is a set that may get it."""

    def replace_fixed(self, keys: Sequence[Key], issuer: str) -> None:
        """Accept these instead of the keys of the settings."""
        self._fixed, self._issuer = tuple(keys), issuer or None

    def replace_set(self, keys: Sequence[Key]) -> bool:
        """Accept the keys of a fetched set, beside those of the settings. False if nothing changed."""
        changed = self._set != tuple(keys)
        self._set = tuple(keys)
        return changed

    def claims(self, token: str, audience: str, required: Sequence[str], *, expires: bool = True) -> dict[str, Any]:
        """The claims of a token for this audience that has the required ones. Raises `Unauthenticated`, and
        `KeysUnavailable` while the set was never loaded.

        expires: False for a token that may have expired.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated("the token is too long", code="invalid_token")
        # Types and texts: exceptions kept here would form cycles with this function's frame.
        refusal: type[Exception] = _UnknownKey
        reason = "no key is known that may have signed it"
        for key in self._candidates(token):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.value,
                    algorithms=key.algorithms,
                    audience=audience,
                    issuer=self._issuer,
                    leeway=LEEWAY_S,
                    options={"require": list(required), "verify_exp": expires},
                )
                _check_end(claims["exp"])
                return claims
            except jwt.ExpiredSignatureError:
                raise Unauthenticated("the token has expired", code="invalid_token") from None
            except jwt.InvalidAudienceError:
                raise Unauthenticated(f"the token's audience is not {audience!r}", code="invalid_token") from None
            except jwt.InvalidAlgorithmError as exc:
                if refusal is _UnknownKey:
                    refusal, reason = type(exc), str(exc)
            except jwt.InvalidSignatureError as exc:
                refusal, reason = type(exc), str(exc)
            except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as exc:
                refusal, reason = type(exc), str(exc)
                break  # this key signed it, or it is no token
        raise self._refused(token, refusal, reason) from None

    def _candidates(self, token: str) -> Sequence[Key]:
        """The keys that may have signed a token: those with its `kid`, else those without any."""
        if not self._set:
            return self._fixed
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            return self._fixed
        if kid is None:
            return self._fixed + self._set
        named = [key for key in self._set if key.kid == kid]
        return named or [*self._fixed, *[key for key in self._set if key.kid is None]]

    def _refused(self, token: str, refusal: type[Exception], reason: str) -> Exception:
        if issubclass(refusal, _UnknownKey | jwt.InvalidSignatureError | jwt.InvalidAlgorithmError) and self.lacks:
            self.lacks()
            if not self._set:
                return KeysUnavailable("the keys that tokens are signed with, NOTIFIER_JWKS_URL, are not loaded yet")
        if issubclass(refusal, jwt.InvalidAlgorithmError):
            return Unauthenticated(self._algorithm_refused(token), code="invalid_token")
        return Unauthenticated(f"invalid token: {reason}", code="invalid_token")

    def _algorithm_refused(self, token: str) -> str:
        name = jwt.get_unverified_header(token).get("alg")
        allowed = ", ".join(dict.fromkeys(known for key in (*self._fixed, *self._set) for known in key.algorithms))
        hint = f" ({name} needs a secret of {HMAC_BYTES[name]} bytes)" if name in HMAC_BYTES else ""
        shown = name if isinstance(name, str) and name.isalnum() else rules.shown(name)
        return f"the token is signed with {shown}; allowed here: {allowed}{hint}"


def _check_end(exp: Any) -> None:
    """Raises `Unauthenticated` for a token that ends in more than `MAX_LIFE_S`."""
    if int(exp) > time.time() + MAX_LIFE_S:
        raise Unauthenticated(
            f"the token's claim exp, {rules.shown(exp)}, is more than 10 years ahead; it counts seconds since 1970, "
            "not milliseconds",
            code="invalid_token",
        )
