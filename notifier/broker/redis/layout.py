"""Checks that all processes agree about the shards: their number, and how they are placed.

Processes with other layouts would look for the same user's events under other keys, and lose them silently.

Must not know: channels, streams, subscriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import hiredis

from notifier.broker.redis.connection import Connection, open_connection
from notifier.broker.redis.keys import Keys, layout_error
from notifier.broker.redis.places import Places
from notifier.errors import BrokerUnavailable, ConfigurationError

CHECK_TIMEOUT_S: Final = 1.0
"""For asking another node than that of the shard."""

log = logging.getLogger("notifier.broker")


class Layout:
    """The layout of this process, compared with the stored one by each new connection."""

    def __init__(self, places: Places, keys: Keys, *, name: str) -> None:
        self._places = places
        self._keys = keys
        self._name = name
        self._is_unknown = False

    async def require(self, connection: Connection, shard: int) -> bool:
        """Store the layout if none is stored. Raises `ConfigurationError` if it is another.

        A cluster has it on one node. False: that is away or hangs, so nothing is known. The shards on other nodes are
        used meanwhile, and this is to be called again.
        """
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                address = await self._places.of_layout()
                if address is not None:
                    with contextlib.closing(await open_connection(address, name=f"{self._name}-layout")) as other:
                        await self._compare(other, shard)
        except (BrokerUnavailable, hiredis.ReplyError, TimeoutError) as exc:
            level = logging.DEBUG if self._is_unknown else logging.WARNING
            log.log(level, "the layout of the shards could not be checked: %s", str(exc) or "no answer in time")
            self._is_unknown = True
            return False
        if address is None:
            await self._compare(connection, shard)
        self._is_unknown = False
        return True

    async def _compare(self, connection: Connection, shard: int) -> None:
        here = self._keys.layout_at(shard)
        stored: bytes | None = await connection.call("SET", self._keys.layout, here, "NX", "GET")
        if stored is not None and stored != here.encode():
            raise ConfigurationError(layout_error(self._keys, here, stored.decode("utf-8", "replace")))
