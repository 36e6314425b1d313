"""Grants of topics in a request: their number, their size, whose they are.

Must not know: which streams exist.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection

from notifier import rules
from notifier.auth import Authenticator, Subscriber
from notifier.errors import Conflict, InvalidInput, NotAllowed
from notifier.grants import MAX_TOPICS

MAX_QUERY_GRANTS: Final = 20
MAX_QUERY_CHARS: Final = 6 * 1024
"""Of all grants in a query: longer addresses are refused by many proxies."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What grants permit."""

    ends: Mapping[str, float] = field(default_factory=dict)
    """The channels, each with the Unix time of its end."""
    seen: Mapping[str, str | None] = field(default_factory=dict)
    """Those on which others see the user, with the user's name."""


NOTHING: Final = Granted()


def granted_by_query(connection: HTTPConnection, who: Subscriber) -> Granted:
    """What the grants in a stream's query permit; their ends may be over. Raises `InvalidInput`, `NotAllowed` and
    `Conflict`."""
    if b"grant=" not in connection.scope.get("query_string", b""):
        return NOTHING
    tokens = connection.query_params.getlist("grant")
    if len(tokens) > MAX_QUERY_GRANTS or sum(map(len, tokens)) > MAX_QUERY_CHARS:
        raise InvalidInput(
            f"must be at most {MAX_QUERY_GRANTS} with {MAX_QUERY_CHARS} characters together; add the others by "
            "POST /v1/stream/topics",
            field="grant",
        )
    permitted = _granted(connection.app.state.auth, tokens, who)
    if len({*who.topics, *permitted.ends}) > MAX_TOPICS:
        raise Conflict(f"the stream would hear more than {MAX_TOPICS} topics", field="grant")
    return permitted


def granted(auth: Authenticator, tokens: Sequence[str], who: Subscriber) -> Granted:
    """The same of grants in a body, which must be valid now."""
    permitted = _granted(auth, tokens, who)
    if any(end <= time.time() for end in permitted.ends.values()):
        raise NotAllowed("has expired", field="grant")
    return permitted


def granted_names(names: Sequence[str], field: str) -> list[str]:
    """Names of topics as channels."""
    return [f"topic:{rules.name(name, f'{field}[{i}]')}" for i, name in enumerate(names)]


def _granted(auth: Authenticator, tokens: Sequence[str], who: Subscriber) -> Granted:
    ends: dict[str, float] = {}
    seen: dict[str, str | None] = {}
    for token in tokens:
        grant = auth.grant(token, who.user)
        for channel in grant.channels:
            ends[channel] = max(grant.expires_at, ends.get(channel, 0))
            if grant.presence:
                seen[channel] = grant.name or who.name
    return Granted(ends, seen)
