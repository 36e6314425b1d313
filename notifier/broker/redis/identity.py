"""Which life of which primary a connection leads to.

Must not know: what the connection is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from notifier.broker.redis.connection import Connection
from notifier.errors import BrokerUnavailable

REPLICATION: Final = "replication"
"""The section of INFO with the role and the replication id."""
_UNKNOWN: Final = "?"
"""In place of a field that a managed Redis does not show."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one primary, and one life of it, from another."""

    run_id: str
    """Changes when the server restarts."""
    replication_id: str
    """Changes when the server becomes a primary: its data may then be that of another one."""

    def __str__(self) -> str:
        return f"{self.run_id}/{self.replication_id}"


async def identity_of(connection: Connection) -> Identity:
    """The identity of the primary behind a connection. Raises `BrokerUnavailable` for a replica."""
    server = _fields(await connection.call("INFO", "server"))
    replication = _fields(await connection.call("INFO", REPLICATION))
    _require_primary(replication)
    return Identity(server.get("run_id", _UNKNOWN), replication.get("master_replid", _UNKNOWN))


def check_identity(expected: Identity, replication: bytes) -> None:
    """Raises `BrokerUnavailable` if INFO shows a replica, or a primary that became one anew.

    A primary that was demoted and promoted between two looks has the data of another server, under the same connection.
    """
    fields = _fields(replication)
    _require_primary(fields)
    if fields.get("master_replid", _UNKNOWN) != expected.replication_id:
        raise BrokerUnavailable("this Redis was a replica meanwhile: its newest writes may be lost")


def _require_primary(fields: dict[str, str]) -> None:
    if fields.get("role") not in (None, "master"):
        raise BrokerUnavailable("this Redis is a replica; the primary is needed")


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
