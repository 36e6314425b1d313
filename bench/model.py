"""The cost of many users, from the measured costs: `python -m bench.model` reads bench/results.json and writes the
tables of docs/scaling.md.

The model is a sum of products: how often each thing happens, times its measured cost. docs/scaling.md says what it
leaves out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report import REDIS, US, Figures, table
from bench.system import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results.json"
PAGE = REPOSITORY / "docs" / "scaling.md"
BEGIN, END = "<!-- model: written by `python -m bench.model` -->", "<!-- end of model -->"
STREAM_LIFE_S = 450.0
"""A stream's mean life: it is random, from 5 to 10 minutes."""


@dataclass(frozen=True)
class Load:
    """The load by users at the busiest time."""

    events_per_user_per_hour: float = 12
    """Events for one user (messages, steps of tasks)."""
    broadcasts_per_hour: float = 30
    """Events to all."""
    bytes_on_the_wire: float = 480
    """One event with its frame, TCP and IP."""
    history_events: float = 50
    """Events that a user's history holds."""
    busy: float = 0.6
    """The share of a core that may be used."""


@dataclass(frozen=True)
class Costs:
    """Measured costs: CPU in µs, memory in KiB or bytes."""

    connect_us: float
    redis_connect_us: float
    delivery_us: float
    event_us: float
    http_publish_us: float
    """A publish by HTTP, without the delivery."""
    redis_event_us: float
    redis_event_bytes: float
    stream_kib: float
    channel_kib: float
    heartbeat_us_per_s: float
    process_mib: float

    @classmethod
    def of(cls, run: dict[str, Any]) -> Costs:
        get, many = Figures(run), run["sizes"]["many"]

        def need(server: str, work: str, name: str) -> float:
            figure = get(server, work, name)
            if figure is None:
                raise SystemExit(f"bench/results.json has no {server}, {work}, {name}: run `make bench`")
            return figure

        return cls(
            connect_us=need(REDIS, "connect", "cpu_us"),
            redis_connect_us=need(REDIS, "connect", "redis_cpu_us"),
            delivery_us=need(US, "broadcast", "cpu_us"),
            event_us=need(REDIS, "from Redis", "cpu_us"),
            http_publish_us=need(REDIS, "one by one", "cpu_us") - need(REDIS, "from Redis", "cpu_us"),
            redis_event_us=need(REDIS, "from Redis", "redis_cpu_us"),
            redis_event_bytes=need(REDIS, "from Redis", "redis_bytes"),
            stream_kib=need(US, "connect many", "memory_kib"),
            channel_kib=(need(REDIS, "10 groups", "memory_kib") - need(REDIS, "0 groups", "memory_kib")) / 10,
            heartbeat_us_per_s=need(US, "idle", "percent_of_a_core") * 1e4 / many,
            process_mib=need(REDIS, "start", "memory_mib"),
        )


@dataclass(frozen=True)
class Needs:
    """The needs of so many users with an open stream."""

    streams: int
    cores: dict[str, float]
    """Cores of the service by kind of work."""
    workers: int
    reconnect_s: float
    """The time in which all workers together accept all streams again, with all of their CPU."""
    memory_gib: float
    redis_cores: float
    shards: int
    redis_gib: float
    megabit_s: float

    @property
    def first(self) -> str:
        """The kind of work that takes most of the service's CPU."""
        return max(self.cores, key=lambda kind: self.cores[kind])


def needs(streams: int, costs: Costs, load: Load) -> Needs:
    """The model."""
    connects = streams / STREAM_LIFE_S
    events = streams * load.events_per_user_per_hour / 3600
    broadcasts = load.broadcasts_per_hour / 3600
    cores = {
        "connects": connects * costs.connect_us / 1e6,
        "events for one": events * costs.event_us / 1e6,
        "their publishes by HTTP": events * costs.http_publish_us / 1e6,
        "events for all": broadcasts * streams * costs.delivery_us / 1e6,
        "heartbeats": streams * costs.heartbeat_us_per_s / 1e6,
    }
    workers = max(1, math.ceil(sum(cores.values()) / load.busy))
    redis_cores = (connects * costs.redis_connect_us + events * costs.redis_event_us) / 1e6
    return Needs(
        streams=streams,
        cores=cores,
        workers=workers,
        reconnect_s=streams * costs.connect_us / 1e6 / workers,
        memory_gib=(workers * costs.process_mib + streams * costs.stream_kib / 1024) / 1024,
        redis_cores=redis_cores,
        shards=max(1, math.ceil(redis_cores / load.busy)),
        redis_gib=streams * load.history_events * costs.redis_event_bytes / 2**30,
        megabit_s=8 * load.bytes_on_the_wire * (events + broadcasts * streams) / 1e6,
    )


def text(run: dict[str, Any], load: Load, **others: float) -> str:
    """The tables, as Markdown. `others`: costs that replace measured ones."""
    costs, get = replace(Costs.of(run), **others), Figures(run)
    sizes = [needs(streams, costs, load) for streams in (100_000, 1_000_000, 10_000_000)]
    head = ["", *(f"{size.streams:,} streams" for size in sizes)]
    rows: list[Sequence[str]] = [
        [f"cores: {name}", *(f"{size.cores[name]:,.2f}" for size in sizes)] for name in sizes[0].cores
    ]
    rows += [
        [f"workers, each at most {load.busy:.0%} busy", *(f"{size.workers:,}" for size in sizes)],
        ["all streams reconnect, s", *(f"{size.reconnect_s:,.0f}" for size in sizes)],
        ["memory of the service, GiB", *(f"{size.memory_gib:,.1f}" for size in sizes)],
        ["cores of Redis", *(f"{size.redis_cores:,.2f}" for size in sizes)],
        ["Redis shards", *(f"{size.shards:,}" for size in sizes)],
        [f"memory of Redis, {load.history_events:g} events each, GiB", *(f"{size.redis_gib:,.1f}" for size in sizes)],
        ["network, megabit/s", *(f"{size.megabit_s:,.0f}" for size in sizes)],
        ["most of the work", *(size.first for size in sizes)],
    ]
    pairs = [(what, get(*figure), get(*base)) for what, figure, base in _PAIRS]
    beside = [
        [what, f"{measured:,.2f}", f"{model:,.2f}", f"{measured / model:.2f}"]
        for what, measured, model in pairs
        if measured is not None and model
    ]
    return "\n\n".join([
        f"From the run of {run['at']} (docs/performance.md):",
        table(["cost", "measured"], [[name.replace("_", " "), f"{cost:,.2f}"] for name, cost in vars(costs).items()]),
        f"With {load.events_per_user_per_hour:g} events an hour for each user, {load.broadcasts_per_hour:g} an hour "
        f"for all, and streams that live {STREAM_LIFE_S:g} s:",
        table(head, rows),
        "The model takes each cost to be the same at every size. What was measured at two (each process with 10,000 "
        "streams, on two cores):",
        table(["", "measured", "the model's", "ratio"], beside),
    ]) + "\n"  # fmt: skip


_PAIRS = [
    ("a stream's memory, KiB: 15,000 beside 5,000", (US, "connect many", "memory_kib"), (US, "connect", "memory_kib")),
    ("a delivery's CPU, µs: 15,000 beside 5,000", (US, "broadcast many", "cpu_us"), (US, "broadcast", "cpu_us")),
    ("the same, on Redis beside embedded", (REDIS, "broadcast", "cpu_us"), (US, "broadcast", "cpu_us")),
    *(
        (f"{what}: 4 processes beside 1", (f"{REDIS}, 4 workers", "processes", name), (REDIS, "processes", name))
        for what, name in (
            ("a connect's CPU, µs", "cpu_us"),
            ("a delivery's CPU, µs", "delivery_us"),
            ("an event for one, CPU, µs", "event_us"),
            ("the same, CPU of Redis, µs", "redis_event_us"),
            ("a stream's memory, KiB", "memory_kib"),
        )
    ),
    (
        "a stream's memory, KiB: 10 groups beside 0",
        (REDIS, "10 groups", "memory_kib"),
        (REDIS, "0 groups", "memory_kib"),
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=float, default=Load.events_per_user_per_hour, help="per user and hour")
    parser.add_argument("--broadcasts", type=float, default=Load.broadcasts_per_hour, help="to all, per hour")
    parser.add_argument(
        "--cost", action="append", default=[], metavar="NAME=VALUE", help="another cost, such as connect_us=360"
    )
    parser.add_argument("--show", action="store_true", help="print the tables; do not write docs/scaling.md")
    options = parser.parse_args()
    load = Load(events_per_user_per_hour=options.events, broadcasts_per_hour=options.broadcasts)
    others = {name: float(value) for name, _, value in (cost.partition("=") for cost in options.cost)}
    tables = text(json.loads(RESULTS.read_text()), load, **others)
    if options.show:
        print(tables)
        return
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
