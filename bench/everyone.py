"""What an event for all costs over 12 shards, beside the floor and one primary: `python -m bench.everyone`.

One cluster of three primaries with a replica each serves the service and the bare program of the same work, which take
turns: one by one over HTTP, with a stream on each shard. `--compare CHECKOUT`: another version beside this one. Prints
the medians of the turns, and of their ratios to the bare program's turn directly before or after.

`--single`: events each for one user, and a process without streams, over 12 shards and on one primary.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import system, works
from bench.load import Load
from bench.peers import ALL, Peer, user
from bench.peers.brokers import Servers
from bench.peers.floor import BareShards
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.report import table
from bench.works import Bench
from notifier.broker.redis.keys import Keys
from tests.topologies import RedisCluster

SHARDS = 12
GOAL_MS = 1.5
FIGURES = ("p50_ms", "p99_ms", "cpu_us", "redis_cpu_us")
FLOOR, HERE, OTHER, PRIMARY = (
    "bare, 12 shards",
    "service, 12 shards",
    "other version, 12 shards",
    "service, one primary",
)
HEAD = ["side", "p50, ms", "p99, ms", "CPU, µs", "CPU of the servers, µs", "p50 to the bare", "CPU to the bare"]
SINGLE_HEAD = ["side", "CPU of an event, µs", "of the servers, µs", "idle, % of a core", "CPU to one primary's"]
Measured = dict[str, dict[str, list[float]]]
"""By side, by figure: its value in every turn."""


@dataclass
class Shared:
    """The servers of several peers, which do not start and stop them."""

    servers: Servers

    @property
    def url(self) -> str:
        return self.servers.url

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def cpu_s(self) -> float:
        return self.servers.cpu_s()

    def memory_bytes(self) -> int:
        return self.servers.memory_bytes()


def measure(other: Path | None, events: int, turns: int) -> Measured:
    """Every side in each turn, every other turn in the opposite order."""
    with beside_each_other(other) as benches:
        for bench in benches.values():
            listeners = [bench.peer.stream_request(number, ALL) for number in on_each_shard()]
            bench.streams.open(listeners, bench.peer.port, marker=bench.peer.marker)
        return in_turns(benches, turns, lambda bench: works.for_all(bench, events), FIGURES)


def measure_single(events: int, turns: int, *, streams: int = 500, idle_s: float = 20) -> Measured:
    """The service over 12 shards and on one primary, which take turns: events each for one of so many users. Before
    them, `idle_percent`: of a core, of both at the same time, without streams."""
    with beside_each_other(None, only=(HERE, PRIMARY)) as benches:
        time.sleep(2)  # a start costs more than a second of nothing
        before = {name: bench.peer.cpu_s() for name, bench in benches.items()}
        time.sleep(idle_s)
        idle = {name: 100 * (bench.peer.cpu_s() - before[name]) / idle_s for name, bench in benches.items()}
        for bench in benches.values():
            works.connect(bench, streams, None)
        measured = in_turns(
            benches, turns, lambda bench: works.targeted(bench, streams, events), ("cpu_us", "redis_cpu_us")
        )
    for name, percent in idle.items():
        measured[name]["idle_percent"].append(percent)
    return measured


@contextlib.contextmanager
def beside_each_other(other: Path | None, only: Collection[str] = ()) -> Iterator[Mapping[str, Bench]]:
    """The sides, or some of them, without streams; those over 12 shards have one cluster."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        program = system.build("load", folder)
        servers = Servers(RedisCluster)
        servers.start()
        stack.callback(servers.stop)
        sides = {name: make for name, make in peers(Shared(servers), other).items() if not only or name in only}
        yield {name: stack.enter_context(running(make, folder, program)) for name, make in sides.items()}


def in_turns(
    benches: Mapping[str, Bench], turns: int, work: Callable[[Bench], works.Figures], names: Collection[str]
) -> Measured:
    """These figures of a work that each side does in each turn."""
    measured: Measured = defaultdict(lambda: defaultdict(list))
    for turn in range(-1, turns):  # the first warms up
        for name in list(benches)[:: 1 if turn % 2 else -1]:
            figures = work(benches[name])
            assert not figures["faults"], f"{name}: {figures['faults']} faults"
            for figure in names if turn >= 0 else ():
                measured[name][figure].append(figures[figure])
    return measured


def peers(shared: Shared, other: Path | None) -> dict[str, Callable[[Path], Peer]]:
    def on_cluster(checkout: Path, prefix: str) -> Callable[[Path], Peer]:
        settings = {"NOTIFIER_SHARDS": str(SHARDS), "NOTIFIER_PREFIX": prefix}
        return partial(Notifier, servers=shared, checkout=checkout, settings=settings)

    on_shards: dict[str, Callable[[Path], Peer]] = {
        FLOOR: partial(BareShards, servers=shared, shards=SHARDS),
        HERE: on_cluster(system.REPOSITORY, "here:"),
    }
    if other is not None:
        on_shards[OTHER] = on_cluster(other, "other:")
    return {**on_shards, PRIMARY: NotifierOnRedis}


@contextlib.contextmanager
def running(make: Callable[[Path], Peer], folder: Path, program: Path) -> Iterator[Bench]:
    """The server, without streams."""
    own = Path(tempfile.mkdtemp(dir=folder))
    bench = Bench(make(own), Load(program, own), Load(program, own))
    try:
        bench.peer.start()
        yield bench
    finally:
        bench.peer.stop()
        bench.streams.stop()
        bench.publisher.stop()


def on_each_shard() -> list[int]:
    """The number of a user on each shard."""
    keys, numbers = Keys(shards=SHARDS), dict[int, int]()
    for number in range(100 * SHARDS):
        numbers.setdefault(keys.shard_of_name(user(number)), number)
    return list(numbers.values())


def rows(measured: Measured) -> list[list[str]]:
    lines = []
    for name, figures in measured.items():
        cells = [f"{statistics.median(figures[figure]):.2f}" for figure in FIGURES]
        for figure in ("p50_ms", "cpu_us"):
            pairs = zip(figures[figure], measured[FLOOR][figure], strict=True)
            cells.append(f"{statistics.median(value / floor for value, floor in pairs):.2f}")
        lines.append([name, *cells])
    return lines


def single_rows(measured: Measured) -> list[list[str]]:
    lines = []
    for name, figures in measured.items():
        pairs = zip(figures["cpu_us"], measured[PRIMARY]["cpu_us"], strict=True)
        ratios = sorted(here / there for here, there in pairs)
        medians = (statistics.median(figures[figure]) for figure in ("cpu_us", "redis_cpu_us", "idle_percent"))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append([name, *(f"{value:.2f}" for value in medians), spread])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.everyone", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=300, help="in each turn of each side")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--compare", type=Path, metavar="CHECKOUT", help="the version in another folder")
    parser.add_argument("--single", action="store_true", help="events each for one user, and no streams at all")
    options = parser.parse_args()
    if options.single:
        print(table(SINGLE_HEAD, single_rows(measure_single(options.events, options.turns))))
        return
    other = options.compare.resolve() if options.compare else None
    measured = measure(other, options.events, options.turns)
    print(table(HEAD, rows(measured)))
    if other is not None:
        for figure in ("p50_ms", "cpu_us"):
            pairs = zip(measured[HERE][figure], measured[OTHER][figure], strict=True)
            ratios = sorted(here / there for here, there in pairs)
            print(f"{figure}, here to other: {ratios[0]:.3f} {statistics.median(ratios):.3f} {ratios[-1]:.3f}")
    turns_ms = measured[HERE]["p50_ms"]
    median_ms = statistics.median(turns_ms)
    print(f"goal, p50 at most {GOAL_MS} ms: fastest turn {min(turns_ms):.2f}, median {median_ms:.2f}")


if __name__ == "__main__":
    main()
