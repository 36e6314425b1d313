"""The user or publisher of a token or a key."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest

from notifier.api.http import publisher_of
from notifier.api_key import ApiKey
from notifier.auth import MAX_KNOWN_HEADERS, PUBLISH, TOPICS, subscriber_token, topic_grant
from notifier.errors import NotAllowed, Unauthenticated
from notifier.settings import load
from tests.tokens import SECRET, authenticator, claims, forged, signed

KEY = "test-key-0123456789abcdef"


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


def test_a_grant_that_has_ended_is_verified_again(verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    auth, token = authenticator(), signed(aud=TOPICS, topics=["order:42"])
    grant = auth.grant(token, "42")
    monkeypatch.setattr("notifier.auth.time.time", lambda: grant.expires_at + 1)
    assert auth.grant(token, "42") == grant
    assert verified == [token, token]


def test_a_token_is_verified_once_until_it_ends(verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    auth, token = authenticator(), signed(groups=["staff"])
    first = auth.subscriber(token)
    assert auth.subscriber(token) is first
    assert verified == [token]
    later = first.expires_at + 1
    monkeypatch.setattr("notifier.auth.time.time", lambda: later)
    auth.subscriber(token)
    assert verified == [token, token], "also within the leeway"


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
    assert users[-1] in auth._subscribers._values.values()
    assert len(auth._subscribers._values) == len(auth._subscribers._digests) == 3


def test_a_new_token_beyond_the_bound_takes_the_place_of_one_other(monkeypatch: pytest.MonkeyPatch) -> None:
    # Removing many at a time would hold the event loop.
    monkeypatch.setattr("notifier.auth.MAX_VERIFIED", 100)
    auth = authenticator()
    for number in range(150):
        before = set(auth._subscribers._values)
        auth.subscriber(signed(sub=str(number)))
        assert len(before - set(auth._subscribers._values)) <= 1


def test_users_who_come_back_in_their_order_are_not_all_verified_again(
    verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.auth.MAX_VERIFIED", 100)
    auth = authenticator()
    tokens = [signed(sub=str(number)) for number in range(150)]
    for _ in range(3):
        for token in tokens:
            auth.subscriber(token)
    assert len(verified) < 400


def test_a_publishers_token_is_verified_once_until_it_ends(
    verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    auth, token = authenticator(), signed(aud=PUBLISH, sub="shop")
    first = auth.publisher(token)
    assert auth.publisher(token) is first
    assert verified == [token]
    monkeypatch.setattr("notifier.auth.time.time", lambda: first.expires_at + 1)
    auth.publisher(token)
    assert verified == [token, token]


def test_a_header_with_a_known_key_is_compared_once_and_never_after_the_key_is_gone() -> None:
    auth = authenticator(api_keys=(ApiKey.parse(KEY),))
    for spelled in range(MAX_KNOWN_HEADERS + 5):
        publisher_of(auth, f"Bearer {' ' * spelled}{KEY}")
    assert auth.remembered(f"Bearer {KEY}") is not None
    assert len(auth._by_header) == MAX_KNOWN_HEADERS
    auth.replace(secrets=(SECRET,), public_keys="", issuer="", api_keys=())
    with pytest.raises(Unauthenticated):
        publisher_of(auth, f"Bearer {KEY}")


def test_the_scope_is_asked_of_a_remembered_publisher_too() -> None:
    auth = authenticator(api_keys=(ApiKey.parse(KEY),))
    publisher_of(auth, f"Bearer {KEY}")
    with pytest.raises(NotAllowed):
        publisher_of(auth, f"Bearer {KEY}", "admin")


def test_the_header_of_a_publishers_token_is_not_remembered_since_the_token_ends() -> None:
    auth = authenticator(api_keys=(ApiKey.parse(KEY),))
    header = f"Bearer {signed(aud=PUBLISH)}"
    publisher_of(auth, header)
    assert auth.remembered(header) is None
