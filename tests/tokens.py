"""Tokens of every kind, as issuers and attackers make them, and an `Authenticator` that checks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from notifier.auth import STREAM, Authenticator

SECRET = "a-secret-for-tests-that-is-long-enough"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def private(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def authenticator(**given: Any) -> Authenticator:
    return Authenticator(**{"secrets": (SECRET,), "public_keys": "", "issuer": "", "api_keys": (), **given})


def claims(**changed: Any) -> dict[str, Any]:
    body = {"sub": "42", "aud": STREAM, "exp": int(time.time()) + 60, **changed}
    return {name: value for name, value in body.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def forged(header: dict[str, Any], body: dict[str, Any] | bytes, secret: bytes) -> str:
    """A token as an attacker makes it, with any header and any HMAC secret."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), raw)]
    mac = hmac.new(secret, b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()
