"""One run: processes, Redis, browsers and publishers on one virtual clock, and the incidents of one seed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from unittest import mock

from notifier import rounds
from notifier.broker.redis import scripts
from notifier.event import custom
from tests.simulation.browser import Browser
from tests.simulation.incidents import ALL_INCIDENTS, LINK_INCIDENTS, Incident
from tests.simulation.loop import STARTED_S, UNIX_S, NothingScheduled, SimulatedLoop, deterministic
from tests.simulation.network import Network
from tests.simulation.oracle import Ledger, token_text
from tests.simulation.process import Process
from tests.simulation.publishers import Publisher
from tests.simulation.redis_data import Data
from tests.simulation.redis_model import ModelRedis

ACTS = 4
ACT_S = 150.0
"""Simulated time with incidents; after it, the incidents pause."""
CALM_S = 60.0
"""In the pause, every client must have everything within this time."""
SHARED = ["all", "group:a", "group:b"]
HABITS = ("fast", "fast", "slow", "paused")
LAST_LINES = 60


@dataclass
class Outcome:
    """What a run saw."""

    seed: int
    problems: list[str]
    incidents: list[Incident]
    trace: list[str]
    simulated_s: float
    act_s: float = ACT_S
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def digest(self) -> str:
        """Equal for equal runs."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def __str__(self) -> str:
        only = ",".join(str(incident.number) for incident in self.incidents)
        lines = [
            f"seed {self.seed}: repeat with python -m tests.simulation {self.seed} --only={only}",
            *self.problems[:5],
        ]
        lines += ["incidents:", *(f"  {incident}" for incident in self.incidents)]
        return "\n".join([*lines, "last lines of the trace:", *self.trace[-LAST_LINES:]])


class World:
    """Everything that takes part. The first problem ends the run."""

    def __init__(self, seed: int, loop: SimulatedLoop, only: Collection[int] | None, act_s: float) -> None:
        self.seed = seed
        self.act_s = act_s
        self.loop = loop
        self.ledger = Ledger()
        self.problems: list[str] = []
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.is_quiet = False
        self._tokens = 0
        self._ended: asyncio.Future[None]
        self._identities = self.chance("identities")
        self._browsing: dict[Browser, asyncio.Task[None]] = {}
        plan = self.chance("plan")
        self.is_gentle = plan.random() < 0.4
        """Only incidents after which no reset is needed: a reset is a problem."""
        self.history_size = 3_000 if self.is_gentle else plan.choice((4, 20, 200))
        self.event_history_size = 3_000 if self.is_gentle else plan.choice((4, 20, 200))
        self.max_replay = 10_000 if self.is_gentle else plan.choice((5, 50, 500))
        self.max_backlog_bytes = plan.choice((2_000, 1 << 20))
        self.rate_per_s = plan.choice((0.1, 0.4) if self.is_gentle else (0.1, 0.5, 1.5))
        self.users = [(f"u{number}", (f"user:u{number}", *plan.sample(SHARED, 2))) for number in range(3)]
        self.shared = SHARED
        self.channels = [channels[0] for _, channels in self.users] + SHARED
        self.network = Network(loop, self.chance("network"))
        self.redis = self._new_redis(Data(self._now_ms))
        self.network.server = self.redis
        self.processes = [Process(self, f"p{number}-0") for number in range(2)]
        self.browsers = [
            Browser(self, number, *self.users[number % 3], HABITS[number % len(HABITS)]) for number in range(6)
        ]
        self.incidents = self._schedule(plan, only)

    def _schedule(self, plan: random.Random, only: Collection[int] | None) -> list[Incident]:
        kinds = list(LINK_INCIDENTS if self.is_gentle else ALL_INCIDENTS)
        pause_s = plan.choice((2, 10, 40))
        incidents, at_s = [], 0.0
        while (at_s := at_s + plan.expovariate(1 / pause_s)) < ACTS * self.act_s:
            incidents.append(Incident(len(incidents), at_s, plan.choice(kinds)))
        return [incident for incident in incidents if only is None or incident.number in only]

    def chance(self, name: str) -> random.Random:
        """Randomness of its own for each part: leaving out an incident changes no other part's."""
        return random.Random(f"{self.seed}-{name}")

    def now(self) -> datetime:
        return datetime.fromtimestamp(UNIX_S + self.loop.time(), UTC)

    def _now_ms(self) -> float:
        return (UNIX_S + self.loop.time()) * 1000

    def note(self, line: str) -> None:
        self.trace.append(f"{self.loop.time() - STARTED_S:.6f} {line}")

    def report(self, problem: str) -> None:
        self.note(f"PROBLEM {problem}")
        self.problems.append(problem)
        if not self._ended.done():
            self._ended.set_result(None)

    # Redis

    def _new_redis(self, data: Data) -> ModelRedis:
        data.epoch_began = self.ledger.began
        return ModelRedis(data, lambda: f"{self._identities.getrandbits(64):016x}", self.ledger.announced)

    def _is_ahead_of(self, data: Data) -> tuple[str, int]:
        epoch, seq = data.do_get(b"s:{0}:epoch"), data.do_get(b"s:{0}:seq")
        return (epoch or b"").decode(), int(seq or 0)

    def roll_back(self, server: ModelRedis, data: Data) -> None:
        """A server loses what `data` does not have. What it stores until a new epoch begins is lost for order."""
        self.ledger.roll_back(*self._is_ahead_of(data))
        self.ledger.doomed_epochs.add(self._is_ahead_of(data)[0])

    def replace_redis(self, data: Data) -> ModelRedis:
        """The address leads to another server with this data. Returns the old one, which goes on."""
        old = self.redis
        self.roll_back(old, data)
        self.redis = self.network.server = self._new_redis(data)
        return old

    # Parts

    async def start_process(self, place: int) -> None:
        name, _, life = self.processes[place].name.partition("-")
        process = self.processes[place] = Process(self, f"{name}-{int(life) + 1}")
        await process.start()

    def restart_browser(self, browser: Browser) -> None:
        self._browsing[browser].cancel()
        self._browsing[browser] = self._watched(browser.run())

    def next_token(self) -> int:
        self._tokens += 1
        return self._tokens

    def acknowledge(self, token: int, channels: Collection[str]) -> None:
        self.counts["events"] += 1
        self.ledger.acknowledged.add(token)
        missing = {f"s:{{0}}:ch:{channel}" for channel in channels} - self.ledger.tokens.get(token, set())
        if missing:
            self.report(f"the event {token} was acknowledged and is not stored for {missing}")

    def _watched(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        task.add_done_callback(self._check)
        return task

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.report(f"{task.get_coro()} failed: {exc!r}")

    # The run

    async def run(self) -> None:
        self._ended = self.loop.create_future()
        story = self._watched(self._story())
        await asyncio.wait((story, self._ended), return_when=asyncio.FIRST_COMPLETED)
        self.is_quiet = True
        tasks = [story, *self._browsing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in self.processes:
            await process.kill()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _story(self) -> None:
        for process in self.processes:
            await process.start()
        for browser in self.browsers:
            self._browsing[browser] = self._watched(browser.run())
        for act in range(ACTS):
            self.is_quiet = False
            publishing = [self._watched(Publisher(self, act * 10 + number).run()) for number in range(3)]
            first_s, last_s = act * self.act_s, (act + 1) * self.act_s
            incidents = [incident for incident in self.incidents if first_s <= incident.at_s < last_s]
            acting = [self._watched(self._act(incident, incident.at_s - first_s)) for incident in incidents]
            await asyncio.sleep(self.act_s)
            await asyncio.gather(*acting)
            self.is_quiet = True
            self.note("the incidents pause")
            await asyncio.gather(*publishing)
            await self._settle()

    async def _act(self, incident: Incident, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self.note(f"incident {incident}")
        self.counts[incident.kind] += 1
        await ALL_INCIDENTS[incident.kind](self, self.chance(f"incident-{incident.number}"))

    async def _settle(self) -> None:
        """Every client gets the last event, and then has everything."""
        self.redis.lose_next = self.redis.repeat_next = 0
        until_s = self.loop.time() + CALM_S
        while not all(process.broker.ready for process in self.processes):
            await self._wait(until_s, "a process is not ready")
        token = self.next_token()
        last = custom(to=self.channels, event_type="x", data={"token": token_text(token)})
        receipt = await self.processes[0].broker.publish(last)
        self.note(f"the last event: {token} at {receipt.cursor}")
        while waiting := [browser for browser in self.browsers if not self._has_last(browser, token)]:
            await self._wait(until_s, f"{[browser.witness.name for browser in waiting]} did not get the last event")
        for browser in self.browsers:
            # The last event shows the loss of the one before on its topic; the stream is then opened again.
            while lost := [stored.token for stored in browser.witness.passed]:
                await self._wait(until_s, f"{browser.witness.name}: no reset followed the loss of the events {lost}")
            browser.witness.check_end()
            while old := await self._old_tasks(browser):
                await self._wait(until_s, f"{browser.witness.name} has old tasks: {old}")

    def _has_last(self, browser: Browser, token: int) -> bool:
        return browser.is_greeted and browser.witness.has_or_was_reset(token)

    async def _wait(self, until_s: float, what: str) -> None:
        if self.loop.time() > until_s:
            self.report(f"{CALM_S} s after the incidents: {what}")
            await self.loop.create_future()
        await asyncio.sleep(0.1)

    async def _old_tasks(self, browser: Browser) -> list[str]:
        """The tasks of which a client does not have the newest state."""
        old = []
        for task in await self.processes[0].broker.tasks(browser.user, browser.channels):
            seen = browser.witness.tasks.get(task.id, {"status": "unknown", "done": 0})
            if (seen["status"], seen["done"]) != (task.status, task.done):
                old.append(f"{task.id} is {seen['status']} {seen['done']}, not {task.status} {task.done}")
        return old


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Few streams and recipients reach what needs many: rounds, slices of rounds, publishes in parts."""
    with (
        mock.patch.object(rounds, "DIRECT", 1),
        mock.patch.object(rounds, "STRIDE", 1),
        mock.patch.object(scripts, "CHUNK", 2),
    ):
        yield


def simulate(seed: int, only: Collection[int] | None = None, *, act_s: float = ACT_S) -> Outcome:
    """One run. `only`: the numbers of the incidents that happen. `act_s`: length of each of its acts."""
    loop = SimulatedLoop(seed)
    logger = logging.getLogger("notifier")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    gc.collect()
    gc.disable()
    try:
        with deterministic(loop, seed), small_limits():
            asyncio.set_event_loop(loop)
            world = World(seed, loop, only, act_s)
            try:
                loop.run_until_complete(world.run())
            except NothingScheduled:
                world.problems.append("nothing is scheduled any more")
            problems = world.problems + [f"not awaited: {error}" for error in loop.errors]
    finally:
        gc.enable()
        logger.setLevel(level)
        asyncio.set_event_loop(None)
        loop.close()
    return Outcome(seed, problems, world.incidents, world.trace, loop.time() - STARTED_S, act_s, world.counts)
