"""The figures of a run as tables with ratios, and the goals with the measured values.

Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.system import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"
US, REDIS, FLOOR = "notifier", "notifier, Redis", "floor (C, one send each)"
SQLITE, CLUSTER = "notifier, SQLite", "notifier, cluster, 12 shards"
BARE_HTTP, BARE_REDIS = "bare (asyncio, httptools, json)", "bare (hiredis to transports)"
NCHAN, STARLETTE, CENTRIFUGO = "nginx + nchan", "sse-starlette", "Centrifugo"

RunRecord = dict[str, Any]
Row = Sequence[str]


class Figures:
    """The results of a run, by server, work and name; None where there is no figure."""

    def __init__(self, run: RunRecord) -> None:
        self._results = run["results"]

    def __call__(self, server: str, work: str, name: str) -> float | None:
        figure = self._results.get(server, {}).get(work, {}).get(name)
        return None if figure is None else float(figure)

    def ratio(self, figure: tuple[str, str, str], base: tuple[str, str, str]) -> float | None:
        value, divisor = self(*figure), self(*base)
        return None if value is None or not divisor else value / divisor

    def servers(self, work: str) -> list[str]:
        return [server for server, works in self._results.items() if work in works]


def text(run: RunRecord) -> str:
    """Everything, as Markdown."""
    machine, get = run["machine"], Figures(run)
    head = (
        f"Run of {run['at']}: {machine['cores']} cores, {machine['processor']}, Linux {machine['kernel']}, Python "
        f"{machine['python']}, everything on loopback. CPU is the server's own, by the operating system's accounting."
    )
    for day in sorted(set(run.get("added", {}).values())):
        head += f" Added on {day}: {'; '.join(server for server, at in run['added'].items() if at == day)}."
    sizes = run["sizes"]
    parts = [
        head,
        _faults(run),
        f"**One event to {sizes['streams']:,} streams**, at a rate that each keeps up with ({sizes['light_per_s']:g} a "
        f"second; the slow ones {sizes['slow_per_s']:g}), and at {sizes['saturated_per_s']:g} a second, more than one "
        "core can send one by one.",
        _fan_out(get),
        f"**Events for one of {sizes['streams']:,} users each**, published by HTTP from 16 connections, and at 1,000 a "
        "second.",
        _targeted(get),
        f"**{sizes['many']:,} streams.**",
        _many(get),
        f"**Straight to Redis**, {sizes['redis_per_s']:,.0f} events a second by the service's own script.",
        _from_redis(get),
        _for_all(run, get),
        "**Goals.**",
        _goals(get),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(run: RunRecord) -> None:
    """Write the tables into docs/performance.md."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text(run)}\n{END}{after}")


def _faults(run: RunRecord) -> str:
    wrong = {
        f"{server}, {work}": figures["faults"]
        for server, works in run["results"].items()
        for work, figures in works.items()
        if figures.get("faults")
    }
    if not wrong:
        return "Every event's number was checked at every stream: none was lost, repeated or out of order."
    listed = "; ".join(f"{where}: {count:g}" for where, count in wrong.items())
    return f"Every event's number was checked at every stream. Streams or publishes at fault: {listed}."


def _fan_out(get: Figures) -> str:
    rows = []
    for server in get.servers("connect"):
        light = get(server, "broadcast", "cpu_us")
        rows.append([
            server,
            _n(get(server, "connect", "cpu_us"), 0),
            _x(get.ratio((server, "connect", "cpu_us"), (BARE_HTTP, "connect", "cpu_us"))),
            _n(get(server, "connect", "memory_kib"), 1),
            _n(light, 1),
            _x(get.ratio((server, "broadcast", "cpu_us"), (FLOOR, "broadcast", "cpu_us"))),
            _x(get.ratio((server, "broadcast", "cpu_us"), (US, "broadcast", "cpu_us"))),
            _n(get(server, "saturated", "cpu_us"), 2),
            _n(get(server, "saturated", "deliveries_per_s"), 0),
            _n(get(server, "saturated", "p50_ms"), 0),
        ])  # fmt: skip
    head = [
        "server", "connect, CPU µs", "to the bare program", "memory, KiB a stream", "delivery, CPU µs", "to the floor",
        "to notifier", "saturated: CPU µs", "deliveries a second", "p50 ms",
    ]  # fmt: skip
    return table(head, rows)


def _targeted(get: Figures) -> str:
    rows = [
        [
            server,
            _n(get(server, "one by one", "cpu_us"), 0),
            _x(get.ratio((server, "one by one", "cpu_us"), (BARE_HTTP, "one by one", "cpu_us"))),
            _x(get.ratio((server, "one by one", "cpu_us"), (US, "one by one", "cpu_us"))),
            _n(get(server, "one by one", "per_s"), 0),
            _n(get(server, "one by one", "redis_cpu_us") or None, 0),
            _n(get(server, "batch", "cpu_us"), 0),
            *(_n(get(server, "latency", name), 2) for name in ("p50_ms", "p99_ms", "p999_ms")),
        ]
        for server in get.servers("one by one")
    ]
    head = [
        "server", "event, CPU µs", "to the bare program", "to notifier", "events a second", "Redis, CPU µs",
        "batch, CPU µs", "p50 ms", "p99 ms", "p99.9 ms",
    ]  # fmt: skip
    return table(head, rows)


def _many(get: Figures) -> str:
    rows = [
        [
            server,
            _n(get(server, "connect many", "memory_kib"), 1),
            _n(get(server, "idle", "percent_of_a_core"), 1),
            _n(get(server, "broadcast many", "cpu_us"), 1),
            _n(get(server, "broadcast many", "p50_ms"), 0),
            _n(get(server, "broadcast many", "max_ms"), 0),
        ]
        for server in get.servers("idle")
    ]
    head = ["server", "memory, KiB a stream", "idle, % of a core", "delivery, CPU µs", "p50 ms", "last stream, ms"]
    return table(head, rows)


def _from_redis(get: Figures) -> str:
    rows = [
        [
            server,
            _n(get(server, "from Redis", "cpu_us"), 1),
            _x(get.ratio((server, "from Redis", "cpu_us"), (BARE_REDIS, "from Redis", "cpu_us"))),
            _n(get(server, "from Redis", "redis_cpu_us"), 1),
            *(_n(get(server, "from Redis", name), 2) for name in ("p50_ms", "p99_ms")),
        ]
        for server in get.servers("from Redis")
    ]
    return table(["server", "event, CPU µs", "to the bare program", "Redis, CPU µs", "p50 ms", "p99 ms"], rows)


def _for_all(run: RunRecord, get: Figures) -> str:
    rows = []
    for server in get.servers("for all"):
        p50_ms, p99_ms, cpu_us, redis_us = (
            get(server, "for all", name) for name in ("p50_ms", "p99_ms", "cpu_us", "redis_cpu_us")
        )
        rows.append([server, _n(p50_ms, 2), _n(p99_ms, 2), _n(cpu_us, 0), _n(redis_us or None, 0)])
    if not rows:
        return ""
    streams = run["sizes"]["all_streams"]
    about = f"**Events for all {streams} streams, one by one**, until the answer, which waits for every shard."
    return f"{about}\n\n" + table(["server", "p50 ms", "p99 ms", "event, CPU µs", "Redis, CPU µs"], rows)


@dataclass(frozen=True)
class Turns:
    """A goal's ratios when the two servers take turns (`--compare`, or `bench.everyone`), by hand from such a run:
    steadier than those of a run in which one comes after the other."""

    least: float
    most: float
    median: float

    def __str__(self) -> str:
        return f"{self.least:.2f} to {self.most:.2f}, median {self.median:.2f}"


@dataclass(frozen=True)
class Goal:
    """A bound for a figure, or for its ratio to another."""

    what: str
    bound: str
    measure: Callable[[Figures], float | None]
    is_met: Callable[[float], bool]
    turns: Turns | None = None

    def judged(self, value: float) -> bool:
        """Whether it is met, by the median of turns where there is one."""
        return self.is_met(value if self.turns is None else self.turns.median)


def _at_most(
    what: str,
    bound: float,
    figure: tuple[str, str, str],
    base: tuple[str, str, str] | None = None,
    turns: Turns | None = None,
) -> Goal:
    measure = (lambda get: get.ratio(figure, base)) if base else (lambda get: get(*figure))
    return Goal(what, f"at most {bound:g}", measure, lambda value: value <= bound, turns)


def _at_least(what: str, bound: float, figure: tuple[str, str, str], base: tuple[str, str, str]) -> Goal:
    return Goal(what, f"at least {bound:g}", lambda get: get.ratio(figure, base), lambda value: value >= bound)


def _cpu(server: str, work: str) -> tuple[str, str, str]:
    return server, work, "cpu_us"


BEHIND_MS: Final = 20
"""A server with a median latency above it fell behind the rate: it read several events at once, and each cost less."""


def _kept_up(goal: Goal, *servers: str) -> Goal:
    """A goal for the work "from Redis", without a figure if one of these servers fell behind."""

    def checked(get: Figures) -> float | None:
        p50s_ms = [get(server, "from Redis", "p50_ms") for server in servers]
        return None if any(p50_ms is None or p50_ms > BEHIND_MS for p50_ms in p50s_ms) else goal.measure(get)

    return replace(goal, measure=checked)


GOALS: list[Goal] = [
    _at_most("light fan-out, CPU to the floor's", 1.15, _cpu(US, "broadcast"), _cpu(FLOOR, "broadcast")),
    _at_most("… to nchan's", 0.85, _cpu(US, "broadcast"), _cpu(NCHAN, "broadcast")),
    _at_most("… to sse-starlette's", 0.125, _cpu(US, "broadcast"), _cpu(STARLETTE, "broadcast")),
    _at_least("saturated, deliveries per CPU second to nchan's", 3.5, _cpu(NCHAN, "saturated"), _cpu(US, "saturated")),
    _at_least("… to the floor's", 1.8, _cpu(FLOOR, "saturated"), _cpu(US, "saturated")),
    _at_most("longest /healthz answer during rounds to 15,000, ms", 20, (US, "pauses", "busy_healthz_max_ms")),
    _at_most(
        "p99 of others' events during rounds to that without",
        2,
        (US, "pauses", "busy_p99_ms"),
        (US, "pauses", "quiet_p99_ms"),
    ),
    _kept_up(
        _at_most(
            "from Redis, CPU to the bare program's", 1.15, _cpu(REDIS, "from Redis"), _cpu(BARE_REDIS, "from Redis")
        ),
        *(REDIS, BARE_REDIS),
    ),
    _kept_up(
        _at_most("from Redis, CPU to nchan's event by HTTP", 0.6, _cpu(REDIS, "from Redis"), _cpu(NCHAN, "one by one")),
        REDIS,
    ),
    _at_most(
        "by HTTP, one by one, CPU to the bare program's",
        2,
        _cpu(US, "one by one"),
        _cpu(BARE_HTTP, "one by one"),
        Turns(1.72, 2.17, median=1.96),
    ),
    _at_most("… to Centrifugo's", 1, _cpu(US, "one by one"), _cpu(CENTRIFUGO, "one by one")),
    _at_most("… on Redis to the embedded broker's", 1.6, _cpu(REDIS, "one by one"), _cpu(US, "one by one")),
    _at_most("… CPU of Redis, µs", 60, (REDIS, "one by one", "redis_cpu_us")),
    _at_most(
        "… on a cluster of 12 shards to one primary's",
        1.5,
        _cpu(CLUSTER, "one by one"),
        _cpu(REDIS, "one by one"),
        Turns(1.28, 1.32, median=1.31),
    ),
    _at_least(
        "… with a file, events a second to the embedded broker's",
        0.5,
        (SQLITE, "one by one", "per_s"),
        (US, "one by one", "per_s"),
    ),
    _at_most("for all over 12 shards, p50, ms", 1.5, (CLUSTER, "for all", "p50_ms")),
    _at_most("batch, CPU of an item, µs", 30, _cpu(US, "batch")),
    _at_most("connect with token and snapshot, CPU, µs", 200, _cpu(US, "connect")),
    _at_most(
        "… on Redis to the embedded broker's",
        1.2,
        _cpu(REDIS, "connect"),
        _cpu(US, "connect"),
        Turns(1.04, 1.33, median=1.18),
    ),
    _at_most("p50 at 1,000 events a second, ms", 0.2, (US, "latency", "p50_ms")),
    _at_most("by HTTP, one by one, CPU to nchan's", 3, _cpu(US, "one by one"), _cpu(NCHAN, "one by one")),
    _at_most("batch, CPU to nchan's single posts", 0.2, _cpu(US, "batch"), _cpu(NCHAN, "one by one")),
    _at_most("memory of an idle stream, KiB", 10, (US, "connect many", "memory_kib")),
    _at_most("heartbeats of 15,000 streams, % of a core", 1, (US, "idle", "percent_of_a_core")),
    _at_most(
        "connect with token and snapshot, CPU to sse-starlette's bare one",
        0.33,
        _cpu(US, "connect"),
        _cpu(STARLETTE, "connect"),
    ),
    _at_most(
        "storm with 50 missed each, time to as many first connects",
        1.5,
        (US, "storm", "seconds"),
        (US, "connect at once", "seconds"),
    ),
    _at_most("p99 at 1,000 events a second to nchan's", 1.5, (US, "latency", "p99_ms"), (NCHAN, "latency", "p99_ms")),
    _at_most("start to ready, s", 1, (US, "start", "ready_s")),
    _at_most("idle memory, MiB", 60, (US, "start", "memory_mib")),
]


def _goals(get: Figures) -> str:
    rows = []
    for goal in GOALS:
        value = goal.measure(get)
        if value is not None:
            met = "yes" if goal.judged(value) else "**no**"
            rows.append([goal.what, goal.bound, _n(value, 2), str(goal.turns or ""), met])
    return table(["goal", "bound", "measured", "in turns", "met"], rows)


def table(head: Row, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def _n(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _x(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x"
