"""Authentication: a token or a key becomes a `Subscriber` or a `Publisher`.

Must not know: HTTP routes, brokers, how a signature is verified (`keys`).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import jwt
import msgspec

from notifier import rules
from notifier.api_key import ApiKey
from notifier.errors import InvalidInput, NotAllowed, Unauthenticated
from notifier.keys import Key, TokenKeys, fixed_keys

STREAM: Final = "notifier:stream"
PUBLISH: Final = "notifier:publish"
TOPICS: Final = "notifier:topics"
ADMIN: Final = "admin"
"""The scope of administration. Only API keys have it: an issuer of tokens for publishing must not become one of
administrators by a claim."""
MAX_GROUPS: Final = 64
"""Groups of one token, and topics. Each is a channel that every stream of the user subscribes to."""
MAX_GRANTED: Final = 50
"""Topics of one grant."""
MAX_VERIFIED: Final = 16_384
"""Verified tokens of a kind that are remembered: reconnecting clients send the same again. About 4 MB; with 64 groups
and 64 topics in each token 200."""
MAX_KNOWN_HEADERS: Final = 256
"""Authorization headers with API keys that are remembered. One key can be written in many."""


class Subscriber(msgspec.Struct, frozen=True, gc=False):
    """The user of a stream or an inbox."""

    user: str
    name: str | None
    channels: tuple[str, ...]
    """`user:<id>`, then the token's groups, then `all`."""
    expires_at: float
    """Unix time."""
    cancels_all: bool = False
    """The claim `cancel`: the user may cancel every task that it watches."""
    topics: tuple[str, ...] = ()
    """`topic:<name>` of each of the token's topics: streams hear them, and no inbox has them."""
    answers: bool = True
    """The claim `answers`: false for a user who only watches what tasks ask that were not sent to it by name."""

    @property
    def heard(self) -> tuple[str, ...]:
        """The channels that the user's streams hear."""
        return self.channels + self.topics

    def may_cancel(self, channels: tuple[str, ...]) -> bool:
        """True if the user may cancel a task sent to these channels: one of them is the user's own, or the token says
        so. Other users of a group, or of `all`, only watch."""
        return self.cancels_all or f"user:{self.user}" in channels

    def may_answer(self, channels: tuple[str, ...]) -> bool:
        """True if the user may answer what a task to these channels asks."""
        return self.answers or f"user:{self.user}" in channels

    def hears(self, channels: tuple[str, ...]) -> bool:
        """True if the user may hear at least one of these channels."""
        return any(channel in self.channels or channel in self.topics for channel in channels)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission of one user to hear some topics, for a time. Added to a stream, which hears them until then."""

    user: str
    channels: tuple[str, ...]
    """`topic:<name>` of each topic."""
    expires_at: float
    """Unix time. May be in the past."""
    presence: bool = False
    """True if others see the user on these topics."""
    name: str | None = None
    """The user's name as others see it."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """A publisher: a name for limits and idempotency keys (never the key itself), and its scopes."""

    name: str
    scopes: frozenset[str]
    targets: tuple[str, ...] = ()
    """The channels it may publish to; `user:*` stands for all users. Empty: every channel."""
    expires_at: float = math.inf
    """Unix time; an API key has no end."""

    def require(self, scope: str) -> None:
        """Raises `NotAllowed` without this scope."""
        if scope in self.scopes:
            return
        if scope == ADMIN:
            raise NotAllowed(f"this call needs an API key with the scope {scope!r}")
        raise NotAllowed(f"these credentials lack the scope {scope!r}")

    def require_channels(self, channels: Iterable[str], field: str = "to") -> None:
        """Raises `NotAllowed` if one of these channels is not among the targets."""
        if not self.targets:
            return
        for channel in channels:
            if not any(_covers(target, channel) for target in self.targets):
                raise NotAllowed(f"this API key may not publish to {rules.shown(channel)}", field=field)


def _covers(target: str, channel: str) -> bool:
    return channel.startswith(target[:-1]) if target.endswith("*") else channel == target


T = TypeVar("T", Subscriber, Grant, Publisher)


class _Verified(Generic[T]):
    """What verified tokens say, by their digests. When there are `MAX_VERIFIED`, a new one takes the place of any: in
    the place of the oldest, every token would be verified again where more clients reconnect in the same order."""

    def __init__(self, verify: Callable[[str], T]) -> None:
        self._verify: Callable[[str], T] = verify
        self._values: dict[bytes, T] = {}
        self._digests: list[bytes] = []
        """Those of `_values`, by place."""

    def clear(self) -> None:
        """Verify every token again."""
        self._values.clear()
        self._digests.clear()

    def find(self, token: str) -> T:
        """What a token says. One that has ended is verified again: nothing is remembered for longer than `exp`, and
        the leeway for other clocks is the verification's alone."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()[:16]
        known = self._values.get(digest)
        if known is not None and time.time() < known.expires_at:
            return known
        verified = self._verify(token)
        if known is None:
            self._make_room(digest)
        self._values[digest] = verified
        return verified

    def _make_room(self, digest: bytes) -> None:
        if len(self._digests) < MAX_VERIFIED:
            self._digests.append(digest)
        else:
            place = random.randrange(MAX_VERIFIED)
            del self._values[self._digests[place]]
            self._digests[place] = digest


class Authenticator:
    """Checks tokens and keys against the settings."""

    def __init__(self, *, secrets: Sequence[str], public_keys: str, issuer: str, api_keys: Iterable[ApiKey]) -> None:
        self.keys = TokenKeys(fixed_keys(secrets, public_keys), issuer)
        self._publishers = _by_digest(api_keys)
        self._by_header: dict[str | None, Publisher] = {}
        """Publishers by `Authorization` headers whose API keys were compared with the digests."""
        self._subscribers = _Verified(self._verify_subscriber)
        self._grants = _Verified(self._verify_grant)
        self._tokens = _Verified(self._verify_publisher)

    def replace(self, *, secrets: Sequence[str], public_keys: str, issuer: str, api_keys: Iterable[ApiKey]) -> None:
        """Check against other settings from now on. Raises `ConfigurationError`, and then nothing has changed."""
        self.keys.replace_fixed(fixed_keys(secrets, public_keys), issuer)
        self._publishers = _by_digest(api_keys)
        self._by_header.clear()
        self._forget_verified()

    def replace_set(self, keys: Sequence[Key]) -> None:
        """Accept tokens signed with the keys of a fetched set, and no longer those of the set before."""
        if self.keys.replace_set(keys):
            self._forget_verified()

    def _forget_verified(self) -> None:
        self._subscribers.clear()
        self._grants.clear()
        self._tokens.clear()

    def subscriber(self, token: str) -> Subscriber:
        """The user of a token with `aud` = `notifier:stream`. Raises `Unauthenticated`.

        A token is verified once: what it says is the same until its end."""
        return self._subscribers.find(token)

    def _verify_subscriber(self, token: str) -> Subscriber:
        claims = self.keys.claims(token, STREAM, ("exp", "aud", "sub"))
        try:
            user = rules.name(claims.get("sub"), "sub")
            name = claims.get("name")
            if name is not None:
                name = rules.text(name, "name", max_chars=rules.MAX_TITLE_CHARS)
            cancels_all = _flag(claims, "cancel", default=False)
            answers = _flag(claims, "answers", default=True)
            groups = _names(claims.get("groups") or [], "groups", MAX_GROUPS)
            topics = _names(claims.get("topics") or [], "topics", MAX_GROUPS)
        except InvalidInput as exc:
            raise Unauthenticated(f"the token's claim {exc}", code="invalid_token") from None
        channels = (f"user:{user}", *(f"group:{group}" for group in groups), "all")
        named = tuple(f"topic:{topic}" for topic in topics)
        return Subscriber(user, name, channels, float(int(claims["exp"])), cancels_all, named, answers)

    def grant(self, token: str, user: str) -> Grant:
        """The grant of a token with `aud` = `notifier:topics`, also if it has expired. Raises `NotAllowed` if it is
        invalid, or another user's. Verified once, as a subscriber's token: clients send it with each reconnect."""
        grant = self._grants.find(token)
        if grant.user != user:
            raise NotAllowed(f"is for another user than {rules.shown(user)}", field="grant")
        return grant

    def _verify_grant(self, token: str) -> Grant:
        try:
            claims = self.keys.claims(token, TOPICS, ("exp", "aud", "sub"), expires=False)
            user = rules.name(claims.get("sub"), "sub")
            topics = _names(claims.get("topics"), "topics", MAX_GRANTED)
            if not topics:
                raise InvalidInput("must name at least one topic", field="topics")
            name = claims.get("name")
            if name is not None:
                name = rules.text(name, "name", max_chars=rules.MAX_TITLE_CHARS)
        except Unauthenticated as exc:
            raise NotAllowed(str(exc).replace("the token", "the grant"), field="grant") from None
        except InvalidInput as exc:
            raise NotAllowed(f"has the claim {exc}", field="grant") from None
        channels, presence = tuple(f"topic:{topic}" for topic in topics), claims.get("presence") is True
        return Grant(user, channels, float(int(claims["exp"])), presence, name)

    def publisher(self, credential: str) -> Publisher:
        """The publisher of an API key, or of a token with `aud` = `notifier:publish`. Raises `Unauthenticated`.

        A token is verified once until its `exp`."""
        wanted = _digest(credential)
        for digest, publisher in self._publishers.items():
            if hmac.compare_digest(digest, wanted):
                return publisher
        if credential.count(".") != 2:
            raise Unauthenticated("unknown API key", code="invalid_token")
        return self._tokens.find(credential)

    def _verify_publisher(self, token: str) -> Publisher:
        claims = self.keys.claims(token, PUBLISH, ("exp", "aud"))
        scopes = frozenset(str(claims.get("scope") or "publish").split()) - {ADMIN}
        who = f"jwt:{claims.get('sub') or claims.get('iss') or ''}"
        return Publisher(who, scopes, expires_at=float(int(claims["exp"])))

    def remembered(self, header: str | None) -> Publisher | None:
        """The publisher with this `Authorization` header, if it was remembered."""
        return self._by_header.get(header)

    def remember(self, header: str, publisher: Publisher) -> None:
        """Remember whose API key a header holds, until `replace`. Ignores tokens, which end."""
        if publisher.expires_at == math.inf and len(self._by_header) < MAX_KNOWN_HEADERS:
            self._by_header[header] = publisher


def _by_digest(api_keys: Iterable[ApiKey]) -> dict[str, Publisher]:
    """The publishers by the digests of their keys. Keys with one name are one publisher, with one limit."""
    digests = {_digest(key): key for key in api_keys}
    return {
        digest: Publisher(f"key:{key.name or digest[:12]}", key.scopes, key.targets) for digest, key in digests.items()
    }


def _names(value: object, field: str, most: int) -> tuple[str, ...]:
    """A claim with names, without repeats. Raises `InvalidInput`."""
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInput(f"must be a list of at most {most} names", field=field)
    return tuple(dict.fromkeys([rules.name(name, f"{field}[{i}]") for i, name in enumerate(value)]))


def _flag(claims: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A claim that is true, false, or absent. Raises `InvalidInput`."""
    value = claims.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidInput(f"must be true or false, not {rules.shown(value)}", field=name)
    return value


def subscriber_token(secret: str, user: str, *, ttl_s: int = 3600, **claims: Any) -> str:
    """A token for `user`'s streams and inbox, signed with HS256. Raises `InvalidInput` for a bad user id."""
    now = int(time.time())
    body = {"sub": rules.name(user, "sub"), "aud": STREAM, "iat": now, "exp": now + ttl_s}
    return jwt.encode({**claims, **body}, secret, algorithm="HS256")


def topic_grant(secret: str, user: str, topics: Sequence[str], *, ttl_s: int = 300, **claims: Any) -> str:
    """A grant of some topics for `user`, signed with HS256. Raises `InvalidInput` for a bad user id or name."""
    now = int(time.time())
    named = _names(list(topics), "topics", MAX_GRANTED)
    body = {"sub": rules.name(user, "sub"), "aud": TOPICS, "iat": now, "exp": now + ttl_s, "topics": named}
    return jwt.encode({**claims, **body}, secret, algorithm="HS256")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
