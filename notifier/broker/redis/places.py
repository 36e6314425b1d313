"""Where the primary of each shard is: at one address, where Sentinels say, by the slots of a cluster, or at several
addresses. Nothing else knows.

A place is asked for before each connection. That a shard has moved shows on its connections: they are lost, or refused.

Must not know: what is stored or sent, what a connection is used for.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

import hiredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.exceptions import RedisError

from notifier.broker.redis.addresses import Target, host_of
from notifier.broker.redis.client_info import without_client_info
from notifier.broker.redis.connection import Address, open_connection
from notifier.broker.redis.keys import Keys, slot_of
from notifier.errors import BrokerUnavailable

T = TypeVar("T")

ASK_EVERY_S: Final = 0.25
"""While a primary is away, and may have been replaced."""
ASK_TIMEOUT_S: Final = 0.5
"""For the answer of one Sentinel, or of one node of a cluster."""
AVOIDED_S: Final = 30.0
"""How long a node of a cluster that did not answer is asked after all others."""
FRESH_S: Final = 0.05
"""How long an answer is used for other shards: those of a failed server all ask at the same time."""


class Places(ABC):
    """Where the primaries are."""

    moves_silently = False
    """True if a shard can move while its old primary goes on answering: then `of` is asked every second."""

    @abstractmethod
    async def of(self, shard: int) -> Address:
        """The present primary of a shard. Raises `BrokerUnavailable` if that cannot be found out."""

    async def is_agreed(self, shard: int, address: Address) -> bool:
        """Whether it is the primary for most of those who choose: one of them alone may be cut off from the others."""
        return True

    async def moved(self, shard: int, address: Address | None) -> None:
        """Returns when another address is known to be the primary's; never where there is only one."""
        await asyncio.get_running_loop().create_future()

    async def while_at(
        self, shard: int, address: Address, work: Coroutine[Any, Any, T], drop: Callable[[T], object]
    ) -> T:
        """The result of `work`. Raises `BrokerUnavailable` if another address is the primary's before it ends: a server
        that hangs answers an attempt to connect with nothing. `drop` gets a result that cannot be returned."""
        working = asyncio.create_task(work)
        moved = asyncio.create_task(self.moved(shard, address))
        try:
            await asyncio.wait((working, moved), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise BrokerUnavailable(f"Redis at {address} was replaced")
            moved.cancel()
            await asyncio.gather(moved, return_exceptions=True)
            return working.result()
        except BaseException:
            # A timeout may come in the turn in which the work ends.
            working.add_done_callback(partial(_drop_result, drop))
            working.cancel()
            moved.cancel()
            await asyncio.gather(working, moved, return_exceptions=True)
            raise

    async def of_layout(self) -> Address | None:
        """The primary that has the key `Keys.layout`; None if every primary has it."""
        return None

    async def close(self) -> None:  # noqa: B027  # most have no connection
        """Close the connections that `of` uses."""

    @abstractmethod
    def __str__(self) -> str: ...


def _drop_result(drop: Callable[[T], object], work: asyncio.Task[T]) -> None:
    if not work.cancelled() and work.exception() is None:
        drop(work.result())


class One(Places):
    """One address: DNS, a virtual IP or a proxy may change where it leads."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def of(self, shard: int) -> Address:
        return self._address

    def __str__(self) -> str:
        return str(self._address)


class Several(Places):
    """An address for each shard."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def of(self, shard: int) -> Address:
        return self._addresses[shard]

    def __str__(self) -> str:
        return ", ".join(map(str, self._addresses))


class MovingPlaces(Places):
    """Primaries that others replace."""

    async def moved(self, shard: int, address: Address | None) -> None:
        while True:
            with contextlib.suppress(BrokerUnavailable):
                if await self.of(shard) != address:
                    return
            # All shards ask at the same moments: they share the answer.
            await asyncio.sleep(ASK_EVERY_S - time.monotonic() % ASK_EVERY_S)


class Sentinels(MovingPlaces):
    """The primary that the Sentinels have chosen. A primary that was cut off calls itself one until it is back."""

    moves_silently = True

    def __init__(self, target: Target) -> None:
        self._service = target.service
        self._urls = target.urls
        self._primary = Address.from_url(target.primary)
        self._sentinel: Sentinel | None = None
        self._answer = _Shared[Address]()
        self._names = _Shared[list[Address]]()
        """The primary by the word of each Sentinel that answers."""

    async def of(self, shard: int) -> Address:
        return await self._answer.get(self._ask)

    async def is_agreed(self, shard: int, address: Address) -> bool:
        return 2 * (await self._names.get(self._ask_each)).count(address) > len(self._urls)

    async def _ask(self) -> Address:
        try:
            host, port = await self._library().discover_master(self._service)
        except (RedisError, OSError, TimeoutError) as exc:
            raise BrokerUnavailable(f"no Sentinel knows the primary of {self._service}: {exc}") from exc
        return replace(self._primary, host=host, port=int(port))

    async def _ask_each(self) -> list[Address]:
        asking = (sentinel.sentinel_masters() for sentinel in self._library().sentinels)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        named = [answer[self._service] for answer in answers if isinstance(answer, dict) and self._service in answer]
        return [replace(self._primary, host=state["ip"], port=int(state["port"])) for state in named]

    def _library(self) -> Sentinel:
        if self._sentinel is None:
            self._sentinel = self._connected()
        return self._sentinel

    def _connected(self) -> Sentinel:
        nodes = [parse_url(url) for url in self._urls]  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        options: dict[str, Any] = {name: value for name, value in nodes[0].items() if name.startswith("ssl_")}
        options["ssl"] = nodes[0].get("connection_class") is SSLConnection
        options |= {name: nodes[0].get(name) for name in ("username", "password")}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            [(node["host"], node["port"]) for node in nodes],
            sentinel_kwargs={
                **options,
                "socket_timeout": ASK_TIMEOUT_S,
                "socket_connect_timeout": ASK_TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
            },
        )
        for client in sentinel.sentinels:
            pool = client.connection_pool
            pool.connection_class = without_client_info(pool.connection_class)
        return sentinel

    async def close(self) -> None:
        self._answer.close()
        self._names.close()
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                await client.aclose()

    def __str__(self) -> str:
        return f"{self._service}, as the Sentinels know it"


class Cluster(MovingPlaces):
    """The node that has the slot of a shard's keys, by CLUSTER SLOTS.

    Each question goes to another node than the last: one that was cut off from the others answers with an old map. One
    that hangs is asked last: it would hold up the question of who follows it.
    """

    def __init__(self, seeds: Sequence[Address], keys: Keys) -> None:
        self._seeds = tuple(seeds)
        self._slots = [slot_of(keys.seq(shard)) for shard in range(keys.shards)]
        self._layout_slot = slot_of(keys.layout)
        self._nodes: list[Address] = []
        """The nodes of the last answer, in the order in which they are asked."""
        self._avoided_until: dict[Address, float] = {}
        """Nodes that did not answer, in monotonic seconds."""
        self._answer = _Shared[list[tuple[int, int, Address]]]()

    async def of(self, shard: int) -> Address:
        return await self._of_slot(self._slots[shard])

    async def of_layout(self) -> Address:
        return await self._of_slot(self._layout_slot)

    async def _of_slot(self, slot: int) -> Address:
        for first, last, address in await self._answer.get(self._ask):
            if first <= slot <= last:
                return address
        raise BrokerUnavailable(f"no node of the cluster has the slot {slot}")

    async def _ask(self) -> list[tuple[int, int, Address]]:
        reasons: list[str] = []
        for node in dict.fromkeys((*self._nodes, *self._seeds)):
            try:
                ranges = await self._slots_by(node)
            except (BrokerUnavailable, hiredis.HiredisError, TimeoutError, ValueError, LookupError, TypeError) as exc:
                reasons.append(f"{node}: {exc or type(exc).__name__}")
                self._avoided_until[node] = time.monotonic() + AVOIDED_S
                continue
            self._avoided_until.pop(node, None)
            others = dict.fromkeys(address for _, _, address in ranges if address != node)
            self._nodes = sorted((*others, node), key=self._is_avoided)
            return ranges
        raise BrokerUnavailable(f"no node of the cluster says where the shards are: {'; '.join(reasons)}")

    def _is_avoided(self, node: Address) -> bool:
        return self._avoided_until.get(node, 0) > time.monotonic()

    async def _slots_by(self, node: Address) -> list[tuple[int, int, Address]]:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            connection = await open_connection(node, name="notifier-places")
            try:
                rows = await connection.call("CLUSTER", "SLOTS")
            finally:
                connection.close()
        return [(first, last, _node(primary, node)) for first, last, primary, *_ in rows]

    async def close(self) -> None:
        self._answer.close()

    def __str__(self) -> str:
        return f"the cluster of {', '.join(map(str, self._seeds))}"


def _node(primary: Sequence[Any], asked: Address) -> Address:
    """The address of a node from its row."""
    return replace(asked, host=host_of(primary[0], asked.host), port=int(primary[1]))


class _Shared(Generic[T]):
    """One answer for all that ask at the same time. The question is a task of its own and is not cancelled with those
    who wait: a library that loses its cancellation would let them wait for ever."""

    def __init__(self) -> None:
        self._asking: asyncio.Task[T] | None = None
        self._answered_at = 0.0
        """In monotonic seconds."""

    async def get(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._asking is None or (self._asking.done() and not self._is_fresh(self._asking)):
            self._asking = asyncio.create_task(self._ask(ask))
        return await asyncio.shield(self._asking)

    def _is_fresh(self, asked: asyncio.Task[T]) -> bool:
        has_failed = asked.cancelled() or asked.exception() is not None
        return not has_failed and time.monotonic() - self._answered_at <= FRESH_S

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        answer = await ask()
        self._answered_at = time.monotonic()
        return answer

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


def open_places(target: Target, keys: Keys) -> Places:
    """The places of an address. Raises ValueError and OSError, as `Address.from_url`."""
    if target.mode == "sentinel":
        return Sentinels(target)
    addresses = [Address.from_url(url) for url in target.urls]
    if target.mode == "cluster":
        return Cluster(addresses, keys)
    return Several(addresses) if target.mode == "several" else One(addresses[0])
