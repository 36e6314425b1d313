"""Two versions of this service, measured in turn in one run: what `python -m bench --compare OTHER_CHECKOUT` prints.

A machine's speed drifts by more than versions differ. Both versions therefore run at the same time, and each scenario
is measured at the two directly after each other, in alternating order; only such pairs are compared. `base` is measured
beside them: the bare program of the same work, or this version on its embedded broker.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import system, works
from bench.load import Load
from bench.peers import ALL, Peer
from bench.peers.brokers import NotifierOnFile
from bench.peers.floor import BareHttp, BareRedis
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.run import Sizes
from bench.works import Bench, Figures

NO = ""
"""Instead of a channel: no stream is open."""


@dataclass(frozen=True)
class Scenario:
    """One work at one kind of broker."""

    work: str
    peer: type[Notifier]
    measure: Callable[[Bench, Sizes], Figures]
    figures: Sequence[str]
    """The figures that are compared: all of them are better when they are smaller."""
    streams: str | None = None
    """The channel that the streams listen to before the work begins; None: each to the one of its own user; `NO`."""
    base: type[Peer] | None = None
    turns: int = 1
    """Into how many turns of each side a round is divided."""
    is_large: bool = False
    """True if `sizes.many` streams listen, not `sizes.streams`."""

    @property
    def name(self) -> str:
        return f"{self.peer.name}: {self.work}"

    def count(self, sizes: Sizes) -> int:
        """How many streams listen."""
        return sizes.many if self.is_large else sizes.streams


def _connect(bench: Bench, sizes: Sizes) -> Figures:
    """Each time other users, whose tokens the process has not verified before."""
    return works.connect(bench, sizes.streams, ALL, first=bench.numbers(sizes.streams).start - 1)


def _connect_again(bench: Bench, sizes: Sizes) -> Figures:
    bench.streams.cut()
    return works.connect(bench, sizes.streams, ALL)


def _broadcast(bench: Bench, sizes: Sizes) -> Figures:
    return works.broadcast(bench, sizes.streams, sizes.light_per_s, sizes.seconds)


def _saturated(bench: Bench, sizes: Sizes) -> Figures:
    return works.broadcast(bench, sizes.streams, sizes.saturated_per_s, sizes.saturated_s)


def _one_by_one(bench: Bench, sizes: Sizes) -> Figures:
    return works.targeted(bench, sizes.streams, sizes.events)


def _at_full_rate(bench: Bench, sizes: Sizes) -> Figures:
    """`took_us`: of the whole work, the time an event."""
    figures = _one_by_one(bench, sizes)
    return {**figures, "took_us": 1e6 / figures["per_s"]}


def _batch(bench: Bench, sizes: Sizes) -> Figures:
    return works.targeted(bench, sizes.streams, sizes.events, how="batch")


def _latency(bench: Bench, sizes: Sizes) -> Figures:
    return works.targeted(bench, sizes.streams, int(1000 * sizes.seconds), per_s=1000)


def _heartbeats(bench: Bench, sizes: Sizes) -> Figures:
    """`cpu_us`: of a stream in a second. `faults`: streams that do not hear an event afterwards."""
    figures = works.idle(bench, sizes.idle_s)
    heard = works.broadcast(bench, sizes.many, sizes.light_per_s, 0.3)
    return {**figures, "cpu_us": 1e4 * figures["percent_of_a_core"] / sizes.many, "faults": heard["faults"]}


def _from_redis(bench: Bench, sizes: Sizes) -> Figures:
    return works.targeted(bench, sizes.streams, sizes.events, per_s=sizes.redis_per_s, how="redis")


TURNS = 4
CPU, BOTH_CPU, LATENCY = ("cpu_us",), ("cpu_us", "redis_cpu_us"), ("p50_ms", "p99_ms", "p999_ms")
SCENARIOS = [
    Scenario("connect", Notifier, _connect, ("cpu_us", "memory_kib"), NO, BareHttp),
    Scenario("same tokens again", Notifier, _connect_again, CPU, ALL, BareHttp),
    Scenario("broadcast", Notifier, _broadcast, ("cpu_us", "p50_ms", "p99_ms"), ALL),
    Scenario("saturated", Notifier, _saturated, CPU, ALL),
    Scenario("one by one", Notifier, _one_by_one, CPU, None, BareHttp, TURNS),
    Scenario("one by one", NotifierOnFile, _at_full_rate, ("cpu_us", "took_us"), None, Notifier, TURNS),
    Scenario("batch", Notifier, _batch, CPU, turns=TURNS),
    Scenario("latency", Notifier, _latency, LATENCY, None, BareHttp),
    Scenario("heartbeats", Notifier, _heartbeats, ("percent_of_a_core",), ALL, is_large=True),
    Scenario("connect", NotifierOnRedis, _connect, BOTH_CPU, NO, Notifier),
    Scenario("same tokens again", NotifierOnRedis, _connect_again, BOTH_CPU, ALL, Notifier),
    Scenario("broadcast", NotifierOnRedis, _broadcast, CPU, ALL),
    Scenario("one by one", NotifierOnRedis, _one_by_one, BOTH_CPU, None, Notifier, TURNS),
    Scenario("batch", NotifierOnRedis, _batch, BOTH_CPU, None, Notifier, TURNS),
    Scenario("latency", NotifierOnRedis, _latency, LATENCY, None, Notifier),
    Scenario("from Redis", NotifierOnRedis, _from_redis, (*BOTH_CPU, "p50_ms", "p99_ms"), None, BareRedis, TURNS),
]
"""In the order of the measurements: a first connect is measured at a fresh process."""

SIDES = ("here", "other", "base")
Key = tuple[str, str]
"""A scenario's name, and a figure's."""
Measured = dict[str, dict[Key, list[float]]]
"""By side: each figure's value in every turn."""


def compare(other: Path, sizes: Sizes, *, rounds: int, only: str = "", say: Callable[[str], None]) -> list[str]:
    """The table of ratios. `other` is a checkout of another version; `only` is a part of the scenarios' names."""
    chosen = [scenario for scenario in SCENARIOS if only in scenario.name]
    if not chosen:
        raise SystemExit(f"no scenario contains {only!r}: " + "; ".join(scenario.name for scenario in SCENARIOS))
    measured: Measured = {side: defaultdict(list) for side in SIDES}
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            servers = Servers(Path(name), other)
            try:
                for scenario in chosen:
                    portion = replace(sizes, events=sizes.events // scenario.turns)
                    for turn in range(scenario.turns):
                        # In turn, so that neither always comes first.
                        order = SIDES if (number + turn) % 2 else ("other", "here", "base")
                        _turn(scenario, order, servers, portion, measured)
            finally:
                servers.stop()
        say(f"round {number} of {rounds}")
    return _table(chosen, measured)


def _turn(scenario: Scenario, order: Sequence[str], servers: Servers, sizes: Sizes, measured: Measured) -> None:
    for side in order:
        kind = scenario.base if side == "base" else scenario.peer
        if kind is None:
            continue
        bench = servers.bench(side, kind)
        servers.listen(bench, scenario.streams, scenario.count(sizes))
        figures = scenario.measure(bench, sizes)
        assert not figures["faults"], f"{side}, {scenario.name}: {figures['faults']} faults"
        for name in scenario.figures:
            measured[side][scenario.name, name].append(figures[name])


class Servers:
    """The servers of one round, each started when it is first measured."""

    def __init__(self, folder: Path, other: Path) -> None:
        self._folder = folder
        self._other = other
        self._program = system.build("load", folder)
        self._benches: dict[tuple[str, type[Peer]], Bench] = {}
        self._listening: dict[int, tuple[str | None, int]] = {}

    def bench(self, side: str, kind: type[Peer]) -> Bench:
        """The server of this kind on one side, with its load programs."""
        if (side, kind) not in self._benches:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            checkout = {"checkout": self._other} if side == "other" else {}
            bench = Bench(kind(folder, **checkout), Load(self._program, folder), Load(self._program, folder))
            self._benches[side, kind] = bench
            bench.peer.start()
        return self._benches[side, kind]

    def listen(self, bench: Bench, channel: str | None, count: int) -> None:
        """Have so many of the server's streams listen to `channel`."""
        if self._listening.get(id(bench), (NO, count)) != (channel, count):
            bench.streams.cut()
            works.connect(bench, count, channel)
            self._listening[id(bench)] = channel, count

    def stop(self) -> None:
        for bench in self._benches.values():
            bench.peer.stop()
            bench.streams.stop()
            bench.publisher.stop()


def _table(chosen: Sequence[Scenario], measured: Measured) -> list[str]:
    width = max(len(f"{scenario.name}, {name}") for scenario in chosen for name in scenario.figures)
    lines = [
        f"{'':{width}} {'medians':^26}   {'here : other':^23}   {'here : base':^23}",
        f"{'':{width}} {'here':>8} {'other':>8} {'base':>8}" + 2 * f"   {'min':>7} {'median':>7} {'max':>7}",
    ]
    for scenario in chosen:
        for name in scenario.figures:
            values = {side: _values(measured[side][scenario.name, name]) for side in SIDES}
            cells = " ".join(f"{statistics.median(rows):8.2f}" if rows else " " * 8 for rows in values.values())
            cells += "".join("   " + _spread(values["here"], values[side]) for side in ("other", "base"))
            lines.append(f"{scenario.name + ', ' + name:{width}} {cells}".rstrip())
    return lines


def _values(values: Sequence[float]) -> Sequence[float]:
    """The values, unless all are 0, as the CPU of a Redis that is not used."""
    return values if any(values) else ()


def _spread(figures: Sequence[float], base: Sequence[float]) -> str:
    """Minimum, median and maximum of the ratios of all turns."""
    ratios = [figure / divisor for figure, divisor in zip(figures, base, strict=False) if divisor]
    if not ratios:
        return ""
    return " ".join(f"{ratio:7.3f}" for ratio in (min(ratios), statistics.median(ratios), max(ratios)))
