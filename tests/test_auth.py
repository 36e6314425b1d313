"""The user or publisher of a token or a key, and the tokens that are never accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from notifier.auth import LEEWAY_S, PUBLISH, STREAM, TOPICS, Authenticator, subscriber_token, topic_grant
from notifier.errors import ConfigurationError, NotAllowed, Unauthenticated
from notifier.settings import ApiKey, load

SECRET = "a-secret-for-tests-that-is-long-enough"
KEY = "test-key-0123456789abcdef"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def private(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def authenticator(**given: Any) -> Authenticator:
    return Authenticator(**{"secret": SECRET, "public_key": "", "issuer": "", "api_keys": (), **given})


def claims(**changed: Any) -> dict[str, Any]:
    body = {"sub": "42", "aud": STREAM, "exp": int(time.time()) + 60, **changed}
    return {name: value for name, value in body.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm)


def forged(header: dict[str, Any], body: dict[str, Any] | bytes, secret: bytes) -> str:
    """A token as an attacker makes it, with any header and any HMAC secret."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), raw)]
    mac = hmac.new(secret, b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def test_a_subscriber_hears_itself_its_groups_and_all() -> None:
    who = authenticator().subscriber(signed(name="Ann", groups=["staff", "a:b", "staff"]))
    assert (who.user, who.name) == ("42", "Ann")
    assert who.channels == ("user:42", "group:staff", "group:a:b", "all")
    assert who.hears(("group:x", "all"))
    assert not who.hears(("user:4", "group:x"))


def test_topics_of_a_token_are_heard_and_are_no_channels_of_the_inbox() -> None:
    who = authenticator().subscriber(signed(topics=["order:42", "order:42", "42"]))
    assert who.channels == ("user:42", "all")
    assert who.heard == ("user:42", "all", "topic:order:42", "topic:42")
    assert who.hears(("topic:order:42",))
    assert not who.hears(("topic:order:4", "group:order:42"))


@pytest.mark.parametrize("topics", ["order:42", [""], ["a\n"], [1], ["x"] * 65], ids=repr)
def test_a_token_with_topics_that_are_no_names_is_refused(topics: object) -> None:
    with pytest.raises(Unauthenticated, match="topics"):
        authenticator().subscriber(signed(topics=topics))


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (ED25519, "EdDSA")], ids=["RS256", "ES256", "EdDSA"]
)
def test_a_public_key_checks_tokens_of_its_kind(key: Any, algorithm: str) -> None:
    auth = authenticator(secret="", public_key=public(key))
    assert auth.subscriber(signed(private(key), algorithm)).user == "42"
    with pytest.raises(Unauthenticated):
        auth.subscriber(signed())


def test_a_public_key_may_be_on_one_line_with_escaped_line_ends() -> None:
    auth = authenticator(secret="", public_key=public(RSA).replace("\n", "\\n"))
    assert auth.subscriber(signed(private(RSA), "RS256")).user == "42"


def test_with_a_secret_and_a_public_key_both_kinds_of_tokens_are_accepted() -> None:
    auth = authenticator(public_key=public(RSA))
    assert auth.subscriber(signed()).user == "42"
    assert auth.subscriber(signed(private(RSA), "RS256")).user == "42"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("secret", [b"", SECRET.encode()], ids=["unsigned", "signed"])
def test_a_token_without_algorithm_is_refused(algorithm: str, secret: bytes) -> None:
    with pytest.raises(Unauthenticated):
        authenticator(public_key=public(RSA)).subscriber(forged({"alg": algorithm, "typ": "JWT"}, claims(), secret))


@pytest.mark.parametrize("with_secret", [SECRET, ""], ids=["with a secret", "public key only"])
@pytest.mark.parametrize("key", [RSA, P256, ED25519], ids=["RSA", "EC", "Ed25519"])
def test_a_public_key_used_as_hmac_secret_is_refused(key: Any, with_secret: str) -> None:
    auth = authenticator(secret=with_secret, public_key=public(key))
    for secret in (public(key), public(key).strip(), public(key).replace("\n", "\\n")):
        with pytest.raises(Unauthenticated):
            auth.subscriber(forged({"alg": "HS256", "typ": "JWT"}, claims(), secret.encode()))


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_an_hmac_is_accepted_for_a_secret_of_its_size(algorithm: str, size: int) -> None:
    secret = "s" * size
    assert authenticator(secret=secret).subscriber(signed(secret, algorithm)).user == "42"


@pytest.mark.parametrize(
    ("algorithm", "size", "allowed"),
    [("HS384", 47, "HS256"), ("HS512", 47, "HS256"), ("HS512", 63, "HS256, HS384")],
)
def test_an_hmac_of_more_bytes_than_the_secret_is_refused_and_the_answer_names_what_is_allowed(
    algorithm: str, size: int, allowed: str
) -> None:
    with pytest.raises(Unauthenticated) as error:
        authenticator(secret="s" * size).subscriber(signed("s" * 64, algorithm))
    least = {"HS384": 48, "HS512": 64}[algorithm]
    assert str(error.value) == (
        f"the token is signed with {algorithm}; allowed here: {allowed} ({algorithm} needs a secret of {least} bytes)"
    )


def test_a_refused_algorithm_names_those_of_the_secret_and_of_the_public_key() -> None:
    with pytest.raises(Unauthenticated, match=r"signed with RS512; allowed here: HS256, RS256$"):
        authenticator(public_key=public(RSA)).subscriber(signed(private(RSA), "RS512"))


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
        authenticator(public_key=public(RSA)).subscriber(signed(private(RSA), algorithm))


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": 1_600_000_000},
        {"exp": None},
        {"exp": "soon"},
        {"exp": []},
        {"aud": None},
        {"aud": PUBLISH},
        {"aud": "notifier:stream2"},
        {"aud": ["notifier:publish", "other"]},
        {"sub": None},
        {"sub": 42},
        {"sub": ""},
        {"sub": "a" * 129},
        {"sub": "a\nb"},
        {"sub": "\ud800"},
        {"name": 7},
        {"name": "\x00"},
        {"groups": "staff"},
        {"groups": ["staff", 7]},
        {"groups": ["a\x00"]},
        {"groups": [f"g{i}" for i in range(65)]},
        {"nbf": 4102444800},
        {"iat": 4102444800},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_a_token_with_a_bad_claim_is_refused(changed: dict[str, Any]) -> None:
    body = {name: value for name, value in claims(**changed).items() if value is not None}
    with pytest.raises(Unauthenticated) as error:
        authenticator().subscriber(forged({"alg": "HS256", "typ": "JWT"}, body, SECRET.encode()))
    assert error.value.code == "invalid_token"


@pytest.mark.parametrize("name", ["\ud800", "\0", 7, "x" * 256], ids=["surrogate", "nul", "number", "long"])
def test_a_grant_with_a_name_that_cannot_be_shown_is_refused(name: object) -> None:
    token = topic_grant(SECRET, "42", ["order:1"], presence=True, name=name)
    with pytest.raises(NotAllowed, match="has the claim name"):
        authenticator().grant(token, "42")


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999", "1" + "0" * 400], ids=["inf", "nan", "1e999", "10^400"])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_a_claim_with_an_infinite_number_does_not_crash(claim: str, number: str) -> None:
    body = json.dumps(claims(**{claim: 5})).replace(f'"{claim}": 5', f'"{claim}": {number}').encode()
    try:
        who = authenticator().subscriber(forged({"alg": "HS256", "typ": "JWT"}, body, SECRET.encode()))
    except Unauthenticated:
        return
    assert who.user == "42"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "\xff", "ä.ö.ü", "\ud800", "x" * 9000, KEY])
def test_a_text_that_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        authenticator().subscriber(token)


def test_a_token_of_another_secret_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        authenticator().subscriber(signed("another-secret-that-is-long-enough"))


def test_a_token_is_accepted_after_its_expiry_within_the_leeway_and_not_longer() -> None:
    assert authenticator().subscriber(signed(exp=int(time.time()) - 2)).user == "42"
    with pytest.raises(Unauthenticated):
        authenticator().subscriber(signed(exp=int(time.time()) - 10))


def test_the_issuer_is_checked_if_one_is_set() -> None:
    auth = authenticator(issuer="https://shop.example")
    assert auth.subscriber(signed(iss="https://shop.example")).user == "42"
    for other in ("https://evil.example", None):
        with pytest.raises(Unauthenticated):
            auth.subscriber(signed(iss=other))
    assert authenticator().subscriber(signed(iss="anyone")).user == "42"


# Publishers


def test_an_api_key_publishes_and_only_one_with_the_scope_administers() -> None:
    admin = "test-admin-0123456789abcdef"
    auth = authenticator(api_keys=load(jwt_secret=SECRET, api_keys=f"{KEY},{admin}:publish+admin").api_keys)
    auth.publisher(KEY).require("publish")
    auth.publisher(admin).require("admin")
    with pytest.raises(NotAllowed):
        auth.publisher(KEY).require("admin")


def test_publishers_have_different_names_that_do_not_contain_their_keys() -> None:
    other = KEY + "2"
    auth = authenticator(api_keys=tuple(ApiKey(key, frozenset(["publish"])) for key in (KEY, other)))
    names = {auth.publisher(KEY).name, auth.publisher(other).name}
    assert len(names) == 2
    assert not any(KEY in name for name in names)


@pytest.mark.parametrize("credential", ["", "unknown-key-0123456789", KEY[:-1], KEY + "x", KEY.upper(), "\ud800", "ä"])
def test_an_unknown_key_is_refused(credential: str) -> None:
    auth = authenticator(api_keys=(ApiKey(KEY, frozenset(["publish"])),))
    with pytest.raises(Unauthenticated):
        auth.publisher(credential)


def test_a_token_for_publishing_has_the_scopes_of_its_claim() -> None:
    auth = authenticator()
    auth.publisher(signed(aud=PUBLISH, sub=None)).require("publish")
    auth.publisher(signed(aud=PUBLISH, scope="publish admin")).require("publish")
    with pytest.raises(NotAllowed):
        auth.publisher(signed(aud=PUBLISH, scope="read")).require("publish")


@pytest.mark.parametrize("scope", ["admin", "publish admin", None])
def test_no_token_administers(scope: str | None) -> None:
    with pytest.raises(NotAllowed, match="an API key with the scope 'admin'"):
        authenticator().publisher(signed(aud=PUBLISH, scope=scope)).require("admin")


@pytest.mark.parametrize("value", [True, False, None])
def test_a_token_says_whether_its_user_may_cancel_what_is_sent_to_many(value: bool | None) -> None:
    who = authenticator().subscriber(signed(cancel=value, groups=["staff"]))
    assert who.may_cancel(("user:1", "user:42"))
    assert who.may_cancel(("group:staff",)) is who.may_cancel(("all",)) is bool(value)


@pytest.mark.parametrize("value", [True, False, None])
def test_a_token_says_whether_its_user_may_answer_what_tasks_of_others_ask(value: bool | None) -> None:
    who = authenticator().subscriber(signed(answers=value, groups=["staff"]))
    assert who.may_answer(("user:1", "user:42"))
    assert who.may_answer(("group:staff",)) is who.may_answer(("all",)) is (value is not False)


@pytest.mark.parametrize("value", ["false", 0, []])
def test_a_claim_to_answer_that_is_not_true_or_false_is_refused(value: object) -> None:
    with pytest.raises(Unauthenticated, match="claim answers: must be true or false"):
        authenticator().subscriber(signed(answers=value))


@pytest.mark.parametrize("value", ["true", 1, ["tasks"]])
def test_a_claim_to_cancel_that_is_not_true_or_false_is_refused(value: object) -> None:
    with pytest.raises(Unauthenticated, match="claim cancel: must be true or false"):
        authenticator().subscriber(signed(cancel=value))


def test_a_subscribers_token_does_not_publish() -> None:
    with pytest.raises(Unauthenticated):
        authenticator().publisher(signed())


# Keys of the service


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
        authenticator(public_key=pem)


def test_the_services_own_tokens_are_accepted_and_no_claim_replaces_the_user() -> None:
    token = subscriber_token(SECRET, "42", ttl_s=60, sub="1", groups=["staff"])
    who = authenticator().subscriber(token)
    assert (who.user, who.channels) == ("42", ("user:42", "group:staff", "all"))
    assert 0 < who.expires_at - time.time() <= 60


# A token is verified once


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were checked."""
    checked: list[str] = []
    decode = jwt.decode

    def counted(given: str, *rest: Any, **options: Any) -> Any:
        checked.append(given)
        return decode(given, *rest, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    return checked


def test_a_grant_is_verified_once_and_is_its_users_only(verified: list[str]) -> None:
    auth, token = authenticator(), signed(aud=TOPICS, topics=["order:42"])
    first = auth.grant(token, "42")
    assert auth.grant(token, "42") is first
    assert verified == [token]
    with pytest.raises(NotAllowed, match="another user"):
        auth.grant(token, "43")


def test_a_token_is_verified_once_until_it_ends(verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    auth, token = authenticator(), signed(groups=["staff"])
    first = auth.subscriber(token)
    assert auth.subscriber(token) is first
    assert verified == [token]
    later = time.time() + 60 + LEEWAY_S + 1
    monkeypatch.setattr("notifier.auth.time.time", lambda: later)
    auth.subscriber(token)
    assert verified == [token, token]


def test_a_token_that_differs_in_one_character_is_verified_on_its_own() -> None:
    auth = authenticator()
    token = signed()
    auth.subscriber(token)
    head, body, mac = token.split(".")
    for other in (f"{head}.{body}.{mac[:-2]}AA", f"{head}.{body}.", f"{head}.{body}", token + "A"):
        with pytest.raises(Unauthenticated):
            auth.subscriber(other)
    with pytest.raises(Unauthenticated):
        auth.publisher(token)


def test_the_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifier.auth.MAX_VERIFIED", 3)
    auth = authenticator()
    users = [auth.subscriber(signed(sub=str(number))) for number in range(5)]
    assert [who.user for who in auth._subscribers._values.values()] == [who.user for who in users[2:]]
