"""Grants of topics in a request: their number, their size, whose they are.

Must not know: which streams exist.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from starlette.requests import HTTPConnection

from notifier import rules
from notifier.auth import Authenticator, Subscriber
from notifier.errors import Conflict, InvalidInput, NotAllowed
from notifier.grants import MAX_TOPICS

MAX_QUERY_GRANTS: Final = 20
MAX_QUERY_CHARS: Final = 6 * 1024
"""Of all grants in a query: longer addresses are refused by many proxies."""


def granted_by_query(connection: HTTPConnection, who: Subscriber) -> dict[str, float]:
    """The channels of the grants in a stream's query, each with the Unix time of its end, which may be over. Raises
    `InvalidInput`, `NotAllowed` and `Conflict`."""
    if b"grant=" not in connection.scope["query_string"]:
        return {}
    tokens = connection.query_params.getlist("grant")
    if len(tokens) > MAX_QUERY_GRANTS or sum(map(len, tokens)) > MAX_QUERY_CHARS:
        raise InvalidInput(
            f"must be at most {MAX_QUERY_GRANTS} with {MAX_QUERY_CHARS} characters together; add the others by "
            "POST /v1/stream/topics",
            field="grant",
        )
    ends = _ends_of(connection, tokens, who)
    if len({*who.topics, *ends}) > MAX_TOPICS:
        raise Conflict(f"the stream would hear more than {MAX_TOPICS} topics", field="grant")
    return ends


def granted(connection: HTTPConnection, tokens: Sequence[str], who: Subscriber) -> dict[str, float]:
    """The same of grants in a body, which must be valid now."""
    ends = _ends_of(connection, tokens, who)
    if any(end <= time.time() for end in ends.values()):
        raise NotAllowed("has expired", field="grant")
    return ends


def granted_names(names: Sequence[str], field: str) -> list[str]:
    """Names of topics as channels."""
    return [f"topic:{rules.name(name, f'{field}[{i}]')}" for i, name in enumerate(names)]


def _ends_of(connection: HTTPConnection, tokens: Sequence[str], who: Subscriber) -> dict[str, float]:
    auth: Authenticator = connection.app.state.auth
    ends: dict[str, float] = {}
    for token in tokens:
        grant = auth.grant(token, who.user)
        for channel in grant.channels:
            ends[channel] = max(grant.expires_at, ends.get(channel, 0))
    return ends
