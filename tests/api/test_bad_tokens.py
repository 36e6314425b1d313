"""Invalid tokens: the response is a 401 problem, and nothing changes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, calling, problem_of, unique
from tests.support import API_KEY, JWT_SECRET, Service, bearer, subscriber_token

pytestmark = ONE_BROKER


def forged(header: dict[str, Any], claims: dict[str, Any], secret: str) -> str:
    """A token as an attacker makes it, with any header and any HMAC secret."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = hmac.new(secret.encode(), b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def claims_of(user: User, **changed: Any) -> dict[str, Any]:
    claims = {"sub": user.name, "aud": "notifier:stream", "exp": int(time.time()) + 60, **changed}
    return {name: value for name, value in claims.items() if value is not None}


BAD_TOKENS: dict[str, Callable[[User, str], str]] = {
    "no token at all": lambda user, pem: "nonsense",
    "cut": lambda user, pem: user.token[:-3],
    "expired": lambda user, pem: subscriber_token(user.name, expires_in_s=-60),
    "for publishing": lambda user, pem: subscriber_token(user.name, aud="notifier:publish"),
    "for another service": lambda user, pem: subscriber_token(user.name, aud="shop"),
    "without audience": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, aud=None), JWT_SECRET),
    "without a user": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, sub=None), JWT_SECRET),
    "without an end": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, exp=None), JWT_SECRET),
    "a number as user": lambda user, pem: forged({"alg": "HS256"}, claims_of(user, sub=42), JWT_SECRET),
    "a control character in the user": lambda user, pem: subscriber_token(f"{user.name}\n"),
    "too long a user": lambda user, pem: subscriber_token("a" * 129),
    "a lone surrogate in the user": lambda user, pem: subscriber_token("\ud800"),
    "groups that are no list": lambda user, pem: subscriber_token(user.name, groups="staff"),
    "another secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), JWT_SECRET + "2"),
    "alg none": lambda user, pem: forged({"alg": "none"}, claims_of(user), ""),
    "alg None": lambda user, pem: forged({"alg": "None"}, claims_of(user), ""),
    "alg none, signed": lambda user, pem: forged({"alg": "none"}, claims_of(user), JWT_SECRET),
    "HS512": lambda user, pem: jwt.encode(claims_of(user), JWT_SECRET * 2, algorithm="HS512"),
    "the public key as HMAC secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), pem),
    "the stripped public key as HMAC secret": lambda user, pem: forged({"alg": "HS256"}, claims_of(user), pem.strip()),
    "another private key": lambda user, pem: jwt.encode(claims_of(user), _foreign_key(), algorithm="RS256"),
    "an API key": lambda user, pem: API_KEY,
}


def _foreign_key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_an_invalid_token(tight: Service, user_of: Callable[..., User], public_pem: str, kind: str) -> None:
    user = user_of(tight)
    with calling(tight, API_KEY) as publisher, calling(tight) as anyone:
        sent = publisher.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).json()
        token = BAD_TOKENS[kind](user, public_pem)
        with user.sees_no_change():
            for headers in (bearer(token), {"Cookie": f"notifier_token={token}", "Origin": tight.url}):
                answers = [
                    anyone.get("/v1/stream", headers=headers),
                    anyone.get("/v1/inbox", headers=headers),
                    anyone.get("/v1/inbox/unread", headers=headers),
                    anyone.post("/v1/inbox/read", json={"all": True}, headers=headers),
                    anyone.delete(f"/v1/inbox/{sent['id']}", headers=headers),
                    anyone.get("/v1/tasks", headers=headers),
                ]
                for answer in answers:
                    problem_of(answer, 401)
                    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
            problem_of(anyone.get("/v1/stream", params={"token": token}), 401)


def test_a_token_of_the_private_key_is_accepted(
    tight: Service, user_of: Callable[..., User], signing_key: RSAPrivateKey
) -> None:
    user = user_of(tight)
    token = jwt.encode(claims_of(user), signing_key, algorithm="RS256")
    with calling(tight, token) as client:
        assert client.get("/v1/inbox").status_code == 200


def test_an_invalid_publishers_token(tight: Service, user_of: Callable[..., User], public_pem: str) -> None:
    user = user_of(tight)
    claims = claims_of(user, aud="notifier:publish")
    bad = [
        forged({"alg": "none"}, claims, ""),
        forged({"alg": "HS256"}, claims, public_pem),
        forged({"alg": "HS256"}, {**claims, "exp": int(time.time()) - 60}, JWT_SECRET),
        forged({"alg": "HS256"}, {**claims, "aud": "notifier:stream"}, JWT_SECRET),
        forged({"alg": "HS256"}, {**claims, "aud": []}, JWT_SECRET),
        user.token,
    ]
    with user.sees_no_change():
        for token in bad:
            with calling(tight, token) as client:
                body = {"to": [user.channel], "subject": "Test"}
                problem_of(client.post("/v1/messages", json=body), 401)
    good = forged({"alg": "HS256"}, claims, JWT_SECRET)
    with calling(tight, good) as client:
        assert client.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).status_code == 200


def test_a_problem_never_contains_a_credential(anyone: httpx.Client, user: User) -> None:
    for credential in (unique("secret-key-0123456789"), user.token + "x"):
        for path in ("/v1/inbox", "/v1/stream"):
            assert credential not in anyone.get(path, headers=bearer(credential)).text
        assert credential not in anyone.post("/v1/messages", headers=bearer(credential)).text
