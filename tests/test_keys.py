"""The keys that tokens are signed with: of the settings and of a set, and the tokens that are never accepted."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec

from notifier.api_key import ApiKey
from notifier.auth import PUBLISH, STREAM, TOPICS, Authenticator
from notifier.errors import ConfigurationError, NotAllowed, Unauthenticated
from notifier.keys import public_key
from tests.tokens import ED25519, P256, RSA, SECRET, authenticator, claims, forged, private, public, signed


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (ED25519, "EdDSA")], ids=["RS256", "ES256", "EdDSA"]
)
def test_a_public_key_checks_tokens_of_its_kind(key: Any, algorithm: str) -> None:
    auth = authenticator(secrets=(), public_keys=public(key))
    assert auth.subscriber(signed(private(key), algorithm)).user == "42"
    with pytest.raises(Unauthenticated):
        auth.subscriber(signed())


def test_a_public_key_may_be_on_one_line_with_escaped_line_ends() -> None:
    auth = authenticator(secrets=(), public_keys=public(RSA).replace("\n", "\\n"))
    assert auth.subscriber(signed(private(RSA), "RS256")).user == "42"


def test_with_a_secret_and_a_public_key_both_kinds_of_tokens_are_accepted() -> None:
    auth = authenticator(public_keys=public(RSA))
    assert auth.subscriber(signed()).user == "42"
    assert auth.subscriber(signed(private(RSA), "RS256")).user == "42"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("secret", [b"", SECRET.encode()], ids=["unsigned", "signed"])
def test_a_token_without_algorithm_is_refused(algorithm: str, secret: bytes) -> None:
    with pytest.raises(Unauthenticated):
        authenticator(public_keys=public(RSA)).subscriber(forged({"alg": algorithm, "typ": "JWT"}, claims(), secret))


@pytest.mark.parametrize("with_secret", [(SECRET,), ()], ids=["with a secret", "public key only"])
@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=["RSA", "EC", "Ed25519"])
def test_a_public_key_used_as_hmac_secret_is_refused(key: Any, with_secret: tuple[str, ...]) -> None:
    auth = authenticator(secrets=with_secret, public_keys=public(key))
    for secret in (public(key), public(key).strip(), public(key).replace("\n", "\\n")):
        with pytest.raises(Unauthenticated):
            auth.subscriber(forged({"alg": "HS256", "typ": "JWT"}, claims(), secret.encode()))


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_an_hmac_is_accepted_for_a_secret_of_its_size(algorithm: str, size: int) -> None:
    secret = "s" * size
    assert authenticator(secrets=(secret,)).subscriber(signed(secret, algorithm)).user == "42"


@pytest.mark.parametrize(
    ("algorithm", "size", "allowed"),
    [("HS384", 47, "HS256"), ("HS512", 47, "HS256"), ("HS512", 63, "HS256, HS384")],
)
def test_an_hmac_of_more_bytes_than_the_secret_is_refused_and_the_answer_names_what_is_allowed(
    algorithm: str, size: int, allowed: str
) -> None:
    with pytest.raises(Unauthenticated) as error:
        authenticator(secrets=("s" * size,)).subscriber(signed("s" * 64, algorithm))
    least = {"HS384": 48, "HS512": 64}[algorithm]
    assert str(error.value) == (
        f"the token is signed with {algorithm}; allowed here: {allowed} ({algorithm} needs a secret of {least} bytes)"
    )


def test_a_refused_algorithm_names_those_of_the_secret_and_of_the_public_key() -> None:
    with pytest.raises(Unauthenticated, match=r"signed with RS512; allowed here: HS256, RS256$"):
        authenticator(public_keys=public(RSA)).subscriber(signed(private(RSA), "RS512"))


@pytest.mark.parametrize("audience", [STREAM, PUBLISH])
def test_an_end_more_than_ten_years_ahead_is_refused_and_the_answer_suggests_milliseconds(audience: str) -> None:
    auth = authenticator()
    check = auth.subscriber if audience == STREAM else auth.publisher
    years_s = 365 * 24 * 3600
    check(signed(aud=audience, exp=int(time.time()) + 10 * years_s - 60))
    for exp in (int(time.time()) + 10 * years_s + 3600 * 24 * 4, int(time.time() * 1000), 10**400):
        with pytest.raises(Unauthenticated, match=r"more than 10 years ahead.*not milliseconds") as error:
            check(signed(aud=audience, exp=exp))
        assert error.value.code == "invalid_token"


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_an_rsa_signature_other_than_rs256_is_refused(algorithm: str) -> None:
    with pytest.raises(Unauthenticated):
        authenticator(public_keys=public(RSA)).subscriber(signed(private(RSA), algorithm))


@pytest.mark.parametrize(
    "pem",
    [
        "nonsense",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        private(RSA),
        public(ec.generate_private_key(ec.SECP384R1())),
        public(dsa.generate_private_key(key_size=1024)),
    ],
    ids=["no PEM", "damaged", "private", "P-384", "DSA"],
)
def test_a_public_key_of_an_unsupported_kind_is_refused_at_start_up(pem: str) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_JWT_PUBLIC_KEY"):
        authenticator(public_keys=pem)


def test_a_token_of_another_secret_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        authenticator().subscriber(signed("another-secret-that-is-long-enough"))


def test_a_token_is_accepted_after_its_expiry_within_the_leeway_and_not_longer() -> None:
    assert authenticator().subscriber(signed(exp=int(time.time()) - 2)).user == "42"
    with pytest.raises(Unauthenticated):
        authenticator().subscriber(signed(exp=int(time.time()) - 10))


# Several keys at once


def test_every_secret_is_accepted_and_a_token_of_another_is_not() -> None:
    auth = authenticator(secrets=("new-" + "n" * 32, SECRET))
    assert auth.subscriber(signed()).user == "42"
    assert auth.subscriber(signed("new-" + "n" * 32)).user == "42"
    with pytest.raises(Unauthenticated, match="invalid token"):
        auth.subscriber(signed("old-" + "o" * 32))


def test_with_several_secrets_the_reason_of_a_refusal_is_that_of_the_key_that_signed() -> None:
    auth = authenticator(secrets=(SECRET, "old-" + "o" * 32), issuer="https://shop.example")
    with pytest.raises(Unauthenticated, match="issuer"):
        auth.subscriber(signed(iss="https://other.example"))


@pytest.mark.parametrize("escaped", [False, True], ids=["lines", "one line"])
def test_every_public_key_of_the_text_is_accepted(escaped: bool) -> None:
    pems = public(RSA) + public(P256)
    auth = authenticator(secrets=(), public_keys=pems.replace("\n", "\\n") if escaped else pems)
    assert auth.subscriber(signed(private(RSA), "RS256")).user == "42"
    assert auth.subscriber(signed(private(P256), "ES256")).user == "42"


def test_a_cut_key_behind_a_whole_one_is_refused_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_JWT_PUBLIC_KEY"):
        authenticator(public_keys=public(RSA) + public(P256)[:60])


def test_the_kid_of_a_token_chooses_its_key_in_the_set() -> None:
    auth = authenticator()
    auth.replace_set([public_key(RSA.public_key(), "a"), public_key(P256.public_key(), "b")])  # type: ignore[list-item]
    assert auth.subscriber(signed(private(RSA), "RS256", kid="a")).user == "42"
    assert auth.subscriber(signed(private(P256), "ES256", kid="b")).user == "42"
    assert auth.subscriber(signed(private(P256), "ES256")).user == "42", "without a kid, every key may have signed"
    assert auth.subscriber(signed(kid="any")).user == "42", "the secret has no kid"
    for kid in ("b", "c"):
        with pytest.raises(Unauthenticated):
            auth.subscriber(signed(private(RSA), "RS256", kid=kid))


def accepted_tokens(
    auth: Authenticator, key: str = SECRET, algorithm: str = "HS256", kid: str | None = None
) -> list[tuple[Callable[[str], object], str]]:
    """A token of each kind, with the check that has accepted it."""
    tokens: list[tuple[Callable[[str], object], str]] = [
        (auth.subscriber, signed(key, algorithm, kid=kid)),
        (partial(auth.grant, user="42"), signed(key, algorithm, kid=kid, aud=TOPICS, topics=["order:1"])),
        (auth.publisher, signed(key, algorithm, kid=kid, aud=PUBLISH)),
    ]
    for check, token in tokens:
        check(token)
    return tokens


def test_a_key_that_left_the_set_is_refused_also_for_tokens_that_were_accepted() -> None:
    auth = authenticator()
    auth.replace_set([public_key(RSA.public_key(), "a")])  # type: ignore[list-item]
    refused_now = accepted_tokens(auth, private(RSA), "RS256", kid="a")
    auth.replace_set([public_key(P256.public_key(), "b")])  # type: ignore[list-item]
    for check, token in refused_now:
        with pytest.raises((Unauthenticated, NotAllowed)):
            check(token)
    accepted_tokens(auth, private(P256), "ES256", kid="b")


def test_replaced_credentials_are_the_only_ones() -> None:
    key = ApiKey.parse("key-0123456789abcdef")
    auth = authenticator(api_keys=(key,))
    assert auth.publisher(key).name[:4] == "key:"
    refused_now = accepted_tokens(auth)
    auth.replace(secrets=("new-" + "n" * 32,), public_keys="", issuer="", api_keys=())
    for check, credential in (*refused_now, (auth.publisher, key)):
        with pytest.raises((Unauthenticated, NotAllowed)):
            check(credential)
    accepted_tokens(auth, "new-" + "n" * 32)


def test_a_replacement_with_a_bad_key_changes_nothing() -> None:
    auth = authenticator()
    with pytest.raises(ConfigurationError):
        auth.replace(secrets=(), public_keys="nonsense", issuer="", api_keys=())
    assert auth.subscriber(signed()).user == "42"
