"""The identity of a Redis primary: it changes when the server restarts or becomes a primary again.

Must not know: what a connection is used for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

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

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Self:
        """The identity in the fields of INFO."""
        return cls(fields.get("run_id", _UNKNOWN), fields.get("master_replid", _UNKNOWN))

    @property
    def hidden(self) -> Sequence[str]:
        """The fields of INFO that say nothing: they are missing, empty, or zeros."""
        values = {"run_id": self.run_id, "master_replid": self.replication_id}
        return [name for name, value in values.items() if not value.strip(f"0{_UNKNOWN}")]

    @property
    def weakness(self) -> str:
        """What the service cannot do by this identity; empty if no field is hidden."""
        match self.hidden:
            case []:
                return ""
            case [name]:
                return f"hides {name}: a failover may not be recognised"
            case names:
                lost = "a failover is not recognised, and clients miss events without a reset"
                return f"hides {' and '.join(names)}: {lost}"

    def __str__(self) -> str:
        return f"{self.run_id}/{self.replication_id}"


async def identity_of(connection: Connection) -> Identity:
    """The identity of the primary behind a connection. Raises `BrokerUnavailable` for a replica."""
    server = _fields(await connection.call("INFO", "server"))
    replication = _fields(await connection.call("INFO", REPLICATION))
    _require_primary(replication)
    return Identity.of(server | replication)


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
