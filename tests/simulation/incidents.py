"""What goes wrong: each kind of incident as a coroutine that begins it, waits, and ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.network import Link

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Incident:
    """One entry of the schedule."""

    number: int
    at_s: float
    """Seconds after the start."""
    kind: str

    def __str__(self) -> str:
        return f"{self.number}: {self.kind} at {self.at_s:.1f} s"


Act = Callable[["World", random.Random], Awaitable[None]]


def _some_link(world: World, chance: random.Random) -> Link | None:
    links = list(world.network.links)
    return chance.choice(links) if links else None


async def link_lost(world: World, chance: random.Random) -> None:
    """A connection to Redis is reset."""
    if (link := _some_link(world, chance)) is not None:
        link.cut(ConnectionResetError("reset by the network"))


async def link_flaps(world: World, chance: random.Random) -> None:
    """Connections to Redis are reset again and again."""
    for _ in range(chance.randrange(2, 8)):
        await link_lost(world, chance)
        await asyncio.sleep(chance.uniform(0, 0.3))


async def black_hole(world: World, chance: random.Random) -> None:
    """Nothing arrives in one direction of a connection for a while."""
    if (link := _some_link(world, chance)) is not None:
        pipe = chance.choice((link.to_server, link.to_client))
        pipe.blocked = True
        await asyncio.sleep(chance.choice((0.5, 3, 12)))
        pipe.unblock()


async def slow_link(world: World, chance: random.Random) -> None:
    """The answers, or the calls, of one connection are late."""
    if (link := _some_link(world, chance)) is not None:
        pipe = chance.choice((link.to_server, link.to_client))
        pipe.extra_s = chance.choice((0.05, 0.5, 2.5))
        await asyncio.sleep(chance.uniform(1, 20))
        pipe.extra_s = 0.0


async def subscriptions_lost_behind_late_answers(world: World, chance: random.Random) -> None:
    """Answers of calls are late while the subscriptions are lost and renewed: old answers come to a new order."""
    calls = [link for link in world.network.links if not link.name.endswith("-sub")]
    subscriptions = [link for link in world.network.links if link.name.endswith("-sub")]
    for link in calls:
        link.to_client.extra_s = 1.0
    for browser in world.browsers:
        browser.leave(0.0)
    await asyncio.sleep(chance.uniform(0, 2))
    for link in subscriptions:
        link.cut(ConnectionResetError("reset by the network"))
    await asyncio.sleep(chance.uniform(0, 2))
    for link in calls:
        link.to_client.extra_s = 0.0


async def redis_stopped(world: World, chance: random.Random) -> None:
    """Redis executes nothing for a while."""
    server = world.redis
    server.stop(True)
    await asyncio.sleep(chance.choice((0.3, 2, 5, 15)))
    server.stop(False)


async def redis_refuses(world: World, chance: random.Random) -> None:
    """Redis is there and refuses the scripts."""
    server = world.redis
    server.refusal = chance.choice(("OOM command not allowed when used memory > 'maxmemory'.", "BUSY Redis is busy"))
    await asyncio.sleep(chance.uniform(0.2, 6))
    server.refusal = ""


async def redis_restarted(world: World, chance: random.Random) -> None:
    """Redis starts again with all its data, after a pause."""
    server = world.redis
    server.accepts = False
    server.restart()
    await asyncio.sleep(chance.choice((0, 0.5, 5)))
    server.accepts = True


async def redis_unreachable(world: World, chance: random.Random) -> None:
    """Attempts to connect to Redis get no answer, and the present connections are reset."""
    world.network.unreachable = True
    world.redis.drop_links()
    await asyncio.sleep(chance.uniform(1, 10))
    world.network.unreachable = False


async def demoted_for_a_moment(world: World, chance: random.Random) -> None:
    """The primary becomes a replica, takes over older data and is promoted; connections stay open."""
    server = world.redis
    behind = server.data.copied()
    await asyncio.sleep(chance.uniform(0, 3))
    server.demote()
    world.roll_back(server, behind)
    await asyncio.sleep(chance.choice((0, 0.05, 0.5, 2)))
    server.promote(behind)


async def failover(world: World, chance: random.Random) -> None:
    """The address leads to another server with older data. The old one goes on for a while, then ends."""
    behind = world.redis.data.copied()
    await asyncio.sleep(chance.uniform(0, 3))
    old = world.replace_redis(behind)
    if chance.random() < 0.5:
        await link_lost(world, chance)
    await asyncio.sleep(chance.choice((0, 1, 10)))
    old.accepts = False
    old.drop_links()


async def address_moved(world: World, chance: random.Random) -> None:
    """The address leads to another server with older data, and the subscriptions are lost. The old server stays."""
    behind = world.redis.data.copied()
    await asyncio.sleep(chance.uniform(0, 3))
    world.replace_redis(behind)
    for link in list(world.network.links):
        if link.name.endswith("-sub"):
            link.cut(ConnectionResetError("reset by the network"))


async def announcements_lost(world: World, chance: random.Random) -> None:
    """Announcements reach no process."""
    world.redis.lose_next = chance.randrange(1, 4)


async def announcements_repeated(world: World, chance: random.Random) -> None:
    """Announcements come twice."""
    world.redis.repeat_next = chance.randrange(1, 4)


async def process_frozen(world: World, chance: random.Random) -> None:
    """The processes get no processor for a while."""
    world.loop.freeze(chance.choice((0.2, 2, 8)))


async def process_restarted(world: World, chance: random.Random) -> None:
    """A process is drained or killed, and started again."""
    up = [process for process in world.processes if process.is_up]
    if len(up) < 2:
        return
    process = chance.choice(up)
    process.is_up = False
    if chance.random() < 0.5:
        await process.drain(chance.uniform(0, 5))
    else:
        await process.kill()
    await asyncio.sleep(chance.uniform(0, 3))
    await world.start_process(world.processes.index(process))


async def clients_gone(world: World, chance: random.Random) -> None:
    """Clients lose their connections; the service notices at once, or later."""
    for browser in chance.sample(world.browsers, chance.randrange(1, len(world.browsers) + 1)):
        browser.leave(chance.choice((0.0, 0.5, 20.0)))


async def clients_stalled(world: World, chance: random.Random) -> None:
    """Clients read nothing for a while."""
    for browser in chance.sample(world.browsers, chance.randrange(1, len(world.browsers) + 1)):
        browser.stalled_until = world.loop.time() + chance.choice((1, 5, 15))


LINK_INCIDENTS: dict[str, Act] = {
    "link lost": link_lost,
    "link flaps": link_flaps,
    "black hole": black_hole,
    "slow link": slow_link,
    "subscriptions lost behind late answers": subscriptions_lost_behind_late_answers,
    "Redis stopped": redis_stopped,
    "Redis refuses": redis_refuses,
    "Redis unreachable": redis_unreachable,
    "process frozen": process_frozen,
    "process restarted": process_restarted,
    "clients gone": clients_gone,
    "clients stalled": clients_stalled,
}
"""After these, every cursor is good: no reset is needed."""

SERVER_INCIDENTS: dict[str, Act] = {
    "Redis restarted": redis_restarted,
    "demoted for a moment": demoted_for_a_moment,
    "failover": failover,
    "address moved": address_moved,
    "announcements lost": announcements_lost,
    "announcements repeated": announcements_repeated,
}
"""These lose data, or may need a reset."""

ALL_INCIDENTS: dict[str, Act] = {**LINK_INCIDENTS, **SERVER_INCIDENTS}
