"""What many users take, from the measured costs: `python -m bench.model` reads bench/results.json, writes
docs/scaling.md's tables.

The model is a sum of products: how often each thing happens, times what it was measured to cost. What it leaves out
stands in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.report import REDIS, US, Figures, table
from bench.system import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results.json"
PAGE = REPOSITORY / "docs" / "scaling.md"
BEGIN, END = "<!-- model: written by `python -m bench.model` -->", "<!-- end of model -->"
STREAM_LIFE_S = 450.0
"""A stream's mean life: at random from 5 to 10 minutes."""


@dataclass(frozen=True)
class Load:
    """What users do, at the busiest time."""

    events_per_user_per_hour: float = 12
    """Events for one user (messages, steps of tasks)."""
    broadcasts_per_hour: float = 30
    """Events to all."""
    bytes_on_the_wire: float = 480
    """One event with its frame, TCP and IP."""
    history_events: float = 50
    """Events that a user's history holds."""
    busy: float = 0.6
    """Of a core, before one more is taken."""


@dataclass(frozen=True)
class Costs:
    """What was measured: CPU in µs, memory in KiB or bytes."""

    connect_us: float
    redis_connect_us: float
    delivery_us: float
    event_us: float
    redis_event_us: float
    redis_event_bytes: float
    stream_kib: float
    channel_kib: float
    heartbeat_us_per_s: float
    process_mib: float

    @classmethod
    def of(cls, made: dict[str, Any]) -> Costs:
        get, many = Figures(made), made["sizes"]["many"]

        def need(server: str, work: str, name: str) -> float:
            found = get(server, work, name)
            if found is None:
                raise SystemExit(f"bench/results.json has no {server}, {work}, {name}: run `make bench`")
            return found

        return cls(
            connect_us=need(REDIS, "connect", "cpu_us"),
            redis_connect_us=need(REDIS, "connect", "redis_cpu_us"),
            delivery_us=need(US, "broadcast", "cpu_us"),
            event_us=need(REDIS, "from Redis", "cpu_us"),
            redis_event_us=need(REDIS, "from Redis", "redis_cpu_us"),
            redis_event_bytes=need(REDIS, "from Redis", "redis_bytes"),
            stream_kib=need(US, "connect many", "memory_kib"),
            channel_kib=(need(REDIS, "10 groups", "memory_kib") - need(REDIS, "0 groups", "memory_kib")) / 10,
            heartbeat_us_per_s=need(US, "idle", "percent_of_a_core") * 1e4 / many,
            process_mib=need(REDIS, "start", "memory_mib"),
        )


@dataclass(frozen=True)
class Needs:
    """What so many users with an open stream take."""

    streams: int
    cores: dict[str, float]
    """Cores of the service by what keeps them busy."""
    workers: int
    memory_gib: float
    redis_cores: float
    shards: int
    redis_gib: float
    megabit_s: float

    @property
    def first(self) -> str:
        """What keeps most of the service busy."""
        return max(self.cores, key=lambda one: self.cores[one])


def needs(streams: int, costs: Costs, load: Load) -> Needs:
    """The sum."""
    connects = streams / STREAM_LIFE_S
    events = streams * load.events_per_user_per_hour / 3600
    broadcasts = load.broadcasts_per_hour / 3600
    cores = {
        "connects": connects * costs.connect_us / 1e6,
        "events for one": events * costs.event_us / 1e6,
        "events for all": broadcasts * streams * costs.delivery_us / 1e6,
        "heartbeats": streams * costs.heartbeat_us_per_s / 1e6,
    }
    workers = max(1, math.ceil(sum(cores.values()) / load.busy))
    redis_cores = (connects * costs.redis_connect_us + events * costs.redis_event_us) / 1e6
    return Needs(
        streams=streams,
        cores=cores,
        workers=workers,
        memory_gib=(workers * costs.process_mib + streams * costs.stream_kib / 1024) / 1024,
        redis_cores=redis_cores,
        shards=max(1, math.ceil(redis_cores / load.busy)),
        redis_gib=streams * load.history_events * costs.redis_event_bytes / 2**30,
        megabit_s=8 * load.bytes_on_the_wire * (events + broadcasts * streams) / 1e6,
    )


def text(made: dict[str, Any], load: Load) -> str:
    """The tables, as Markdown."""
    costs, get = Costs.of(made), Figures(made)
    found = [needs(streams, costs, load) for streams in (100_000, 1_000_000, 10_000_000)]
    head = ["", *(f"{one.streams:,} streams" for one in found)]
    rows: list[Sequence[str]] = [
        [f"cores: {name}", *(f"{one.cores[name]:,.2f}" for one in found)] for name in found[0].cores
    ]
    rows += [
        [f"workers, each at most {load.busy:.0%} busy", *(f"{one.workers:,}" for one in found)],
        ["memory of the service, GiB", *(f"{one.memory_gib:,.1f}" for one in found)],
        ["cores of Redis", *(f"{one.redis_cores:,.2f}" for one in found)],
        ["Redis shards", *(f"{one.shards:,}" for one in found)],
        [f"memory of Redis, {load.history_events:g} events each, GiB", *(f"{one.redis_gib:,.1f}" for one in found)],
        ["network, megabit/s", *(f"{one.megabit_s:,.0f}" for one in found)],
        ["most of the work", *(one.first for one in found)],
    ]
    beside = [_beside(what, get(*one), get(*other)) for what, one, other in _PAIRS]
    return "\n\n".join([
        f"From the run of {made['at']} (docs/performance.md):",
        table(["cost", "measured"], [[name.replace("_", " "), f"{one:,.2f}"] for name, one in vars(costs).items()]),
        f"With {load.events_per_user_per_hour:g} events an hour for each user, {load.broadcasts_per_hour:g} an hour "
        f"for all, and streams that live {STREAM_LIFE_S:g} s:",
        table(head, rows),
        "The model takes each cost to be the same at every size. What was measured at two:",
        table(["", "measured", "the model's", "ratio"], beside),
    ]) + "\n"  # fmt: skip


_TWO = f"{REDIS}, 2 workers"
_PAIRS = [
    ("a stream's memory, KiB: 15,000 beside 5,000", (US, "connect many", "memory_kib"), (US, "connect", "memory_kib")),
    ("a delivery's CPU, µs: 15,000 beside 5,000", (US, "broadcast many", "cpu_us"), (US, "broadcast", "cpu_us")),
    ("the same, on Redis beside embedded", (REDIS, "broadcast", "cpu_us"), (US, "broadcast", "cpu_us")),
    ("the same, 2 workers beside 1", (_TWO, "broadcast", "cpu_us"), (REDIS, "broadcast", "cpu_us")),
    ("a connect's CPU, µs: 2 workers beside 1", (_TWO, "connect", "cpu_us"), (REDIS, "connect", "cpu_us")),
    (
        "a stream's memory, KiB: 10 groups beside 0",
        (REDIS, "10 groups", "memory_kib"),
        (REDIS, "0 groups", "memory_kib"),
    ),
]


def _beside(what: str, measured: float | None, model: float | None) -> Sequence[str]:
    if measured is None or not model:
        return [what, "", "", ""]
    return [what, f"{measured:,.2f}", f"{model:,.2f}", f"{measured / model:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.model", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=float, default=Load.events_per_user_per_hour, help="a user, an hour")
    parser.add_argument("--broadcasts", type=float, default=Load.broadcasts_per_hour, help="to all, an hour")
    parser.add_argument("--show", action="store_true", help="print the tables; docs/scaling.md stays")
    asked = parser.parse_args()
    load = Load(events_per_user_per_hour=asked.events, broadcasts_per_hour=asked.broadcasts)
    said = text(json.loads(RESULTS.read_text()), load)
    if asked.show:
        print(said)
        return
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{said}\n{END}{after}")


if __name__ == "__main__":
    main()
