"""The identity of a Redis primary: it changes when the server restarts or becomes a primary again.

Must not know: what a connection is used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from notifier.broker.redis.connection import Connection
from notifier.errors import BrokerUnavailable

REPLICATION: Final = "replication"
"""The section of INFO with the role and the replication id."""
_UNKNOWN: Final = "?"
"""Stands for a field that a managed Redis hides."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Two connections with the same identity lead to the same process with the same history of writes."""

    run_id: str
    """Changes when the server restarts."""
    replication_id: str
    """Changes when a replica is promoted: its data may then lack the newest writes."""

    def __str__(self) -> str:
        return f"{self.run_id}/{self.replication_id}"


async def identity_of(connection: Connection) -> Identity:
    """The identity of the primary behind a connection. Raises `BrokerUnavailable` for a replica."""
    server = _fields(await connection.call("INFO", "server"))
    replication = _fields(await connection.call("INFO", REPLICATION))
    _require_primary(replication)
    return Identity(server.get("run_id", _UNKNOWN), replication.get("master_replid", _UNKNOWN))


def check_identity(expected: Identity, replication: bytes) -> None:
    """Raises `BrokerUnavailable` if INFO shows a replica, or another replication id than `expected`.

    A primary that was demoted and promoted between two checks has taken over another server's data, and its connections
    stay open.
    """
    fields = _fields(replication)
    _require_primary(fields)
    if fields.get("master_replid", _UNKNOWN) != expected.replication_id:
        raise BrokerUnavailable("this Redis was a replica for a moment: its newest writes may be lost")


def _require_primary(fields: dict[str, str]) -> None:
    if fields.get("role") not in (None, "master"):
        raise BrokerUnavailable("this Redis is a replica; the primary is needed")


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
