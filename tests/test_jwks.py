"""The set of keys of an issuer: fetched from a real server, which changes, fails, and goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from notifier import jwks
from notifier.auth import Authenticator
from notifier.errors import KeysUnavailable, Unauthenticated
from notifier.jwks import JwkSet
from notifier.keys import public_key
from notifier.settings import Settings
from tests.serving import serving
from tests.support import bearer
from tests.tokens import ED25519, P256, RSA, authenticator, private, signed


def entry(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """A key as a set has it."""
    algorithms = {RSA: jwt.algorithms.RSAAlgorithm, ED25519: jwt.algorithms.OKPAlgorithm}
    text = algorithms.get(key, jwt.algorithms.ECAlgorithm).to_jwk(key.public_key())
    return {**json.loads(text), **({"kid": kid} if kid else {}), **more}


class Issuer(ThreadingHTTPServer):
    """Answers with `body`, and counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer, bind_and_activate=False)
        self.server_bind()  # the port is its own, and refuses connections until it begins
        self.body: bytes = b""
        self.status = 200
        self.begun = False

    def begin(self) -> None:
        self.server_activate()
        self.begun = True
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def has(self, *entries: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": entries}).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys"

    def stop(self) -> None:
        if self.begun:
            self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def absent() -> Iterator[Issuer]:
    """An issuer that has not begun."""
    server = Issuer()
    yield server
    server.stop()


@pytest.fixture
def issuer(absent: Issuer) -> Issuer:
    absent.begin()
    return absent


def key_set(issuer: Issuer, auth: Authenticator) -> JwkSet:
    result = JwkSet(issuer.url, auth.replace_set)
    auth.keys.lacks = result.lacks
    return result


async def test_tokens_of_every_key_of_the_set_are_accepted(issuer: Issuer) -> None:
    issuer.has(entry(RSA, "a"), entry(P256, "b"), entry(ED25519, None))
    auth = authenticator(secrets=())
    assert await key_set(issuer, auth).fetch()
    for key, algorithm, kid in ((RSA, "RS256", "a"), (P256, "ES256", "b"), (ED25519, "EdDSA", None)):
        assert auth.subscriber(signed(private(key), algorithm, kid=kid)).user == "42"


async def test_keys_that_sign_no_tokens_here_are_left_out(issuer: Issuer) -> None:
    secret = b"s" * 32
    symmetric = {"kty": "oct", "kid": "s", "k": jwt.utils.base64url_encode(secret).decode()}
    other_curve = entry(ec.generate_private_key(ec.SECP384R1()), "c")
    issuer.has(symmetric, other_curve, {"kty": "x"}, entry(P256, "e", use="enc"), entry(RSA, "a"))
    auth = authenticator(secrets=())
    assert await key_set(issuer, auth).fetch()
    assert auth.subscriber(signed(private(RSA), "RS256", kid="a")).user == "42"
    for token in (signed(secret.decode(), kid="s"), signed(secret.decode()), signed(private(P256), "ES256", kid="e")):
        with pytest.raises(Unauthenticated):
            auth.subscriber(token)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"{}"),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": 7}'),
        (200, b'{"keys": [7, {"kty": "oct", "k": "AA"}]}'),
        (200, b'{"keys": [' + b" " * jwks.MAX_BYTES + b"]}"),
        (200, b"[" * 100_000),
    ],
    ids=["500", "redirect", "no JSON", "list", "no list of keys", "no usable key", "large", "deep"],
)
async def test_an_answer_without_keys_leaves_the_last_keys(issuer: Issuer, status: int, body: bytes) -> None:
    issuer.has(entry(RSA, "a"))
    auth = authenticator(secrets=())
    keys = key_set(issuer, auth)
    assert await keys.fetch()
    issuer.status, issuer.body = status, body
    assert not await keys.fetch()
    assert auth.subscriber(signed(private(RSA), "RS256", kid="a")).user == "42"


async def test_before_the_first_answer_tokens_are_neither_accepted_nor_refused(issuer: Issuer) -> None:
    issuer.status = 503
    auth = authenticator()
    keys = key_set(issuer, auth)
    assert not await keys.fetch()
    with pytest.raises(KeysUnavailable):
        auth.subscriber(signed(private(RSA), "RS256", kid="a"))
    assert auth.subscriber(signed()).user == "42", "the secret is known"


async def test_a_service_follows_its_issuer(absent: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service starts while the issuer is away, gets its keys, learns of a new key by its first token, and goes on
    while the issuer is away again."""
    monkeypatch.setattr(jwks, "RETRY_S", 0.05)
    first, second = signed(private(RSA), "RS256", kid="a"), signed(private(P256), "ES256", kid="b")
    async with (
        serving(Settings(jwks_url=absent.url, api_keys="only-for-this-test", drain_s=0)) as service,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{service}", timeout=30) as client,
    ):

        async def status(token: str) -> int:
            return (await client.get("/v1/inbox/unread", headers=bearer(token))).status_code

        async def accepted(token: str) -> None:
            async with asyncio.timeout(20):
                while await status(token) != 200:
                    await asyncio.sleep(0.02)

        answer = await client.get("/v1/inbox/unread", headers=bearer(first))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        absent.has(entry(RSA, "a"))
        absent.begin()
        await accepted(first)
        assert await status(second) == 401
        absent.has(entry(RSA, "a"), entry(P256, "b"))
        await accepted(second)
        absent.shutdown()
        absent.begun = False
        assert [await status(first), await status(second)] == [200, 200]
        assert await status(signed(private(ED25519), "EdDSA", kid="c")) == 401


async def test_unknown_keys_do_not_make_the_service_ask_at_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "RETRY_S", 60)
    auth = authenticator(secrets=())
    auth.replace_set([public_key(RSA.public_key(), "a")])  # type: ignore[list-item]
    keys = JwkSet("http://issuer.test/keys", auth.replace_set)
    auth.keys.lacks = keys.lacks
    fetches = []
    monkeypatch.setattr(keys, "fetch", lambda: asyncio.sleep(0, fetches.append(1)))
    fetching = asyncio.create_task(keys.fetch_forever())
    for number in range(20):
        with pytest.raises(Unauthenticated):
            auth.subscriber(signed(private(RSA), "RS256", kid=f"k{number}"))
        await asyncio.sleep(0.01)
    fetching.cancel()
    assert not fetches


async def test_a_token_with_an_unknown_key_asks_for_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "RETRY_S", 0.01)
    keys = JwkSet("http://issuer.test/keys", lambda _: None)
    fetched = asyncio.Event()
    monkeypatch.setattr(keys, "fetch", lambda: asyncio.sleep(0, fetched.set()))
    fetching = asyncio.create_task(keys.fetch_forever())
    await asyncio.sleep(0.05)
    assert not fetched.is_set(), "without such a token, it waits"
    keys.lacks()
    await asyncio.wait_for(fetched.wait(), 20)
    fetching.cancel()
