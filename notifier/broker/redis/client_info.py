"""Connections of redis-py that do not send CLIENT SETINFO.

It is not among the rights of deploy/redis-users.acl, since Redis 7.0 refuses a file that names it: a newer server would
note each connection in its ACL LOG. Shared by the service and the Django bridge.

Must not know: addresses, what a connection is used for.
"""

from __future__ import annotations

from typing import Any


def without_client_info(connection: type[Any]) -> type[Any]:
    """The class, of asyncio or not, as one that does not send it. No argument of redis-py 5 to 8 has that meaning in
    all of them."""

    class Unnamed(connection):  # type: ignore[misc]  # over TCP, TLS or a Unix socket
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.driver_info = self.lib_name = self.lib_version = None

    return Unnamed
