"""What an event for all costs over 12 shards, beside the floor and one primary: `python -m bench.everyone`.

One cluster of three primaries with a replica each serves the service and the bare program of the same work, which take
turns: one by one over HTTP, with a stream on each shard. `--compare CHECKOUT`: another version beside this one. Prints
the medians of the turns, and of their ratios to the bare program's turn directly before or after.

`--single`: events each for one user, and a process without streams, over 12 shards and on one primary.

It exits with 1 if the service over 12 shards misses one of `GOALS`.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
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
P50, RATIO, IDLE = "p50, ms", "CPU to one primary's", "idle, % of a core"
GOALS = {P50: 1.5, RATIO: 1.5, IDLE: 1.0}
"""The most of each, as the median of the turns: of an event for all; of an event for one user, and without streams."""
FIGURES = ("p50_ms", "p99_ms", "cpu_us", "redis_cpu_us")
FLOOR, HERE, OTHER, PRIMARY = (
    "bare, 12 shards",
    "service, 12 shards",
    "other version, 12 shards",
    "service, one primary",
)
HEAD = ["side", "p50, ms", "p99, ms", "CPU, µs", "CPU of the servers, µs", "p50 to the bare", "CPU to the bare"]
SINGLE_HEAD = ["side", "CPU of an event, µs", "of the servers, µs", IDLE, RATIO]
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


def ratios(measured: Measured, figure: str, side: str, base: str) -> list[float]:
    """A side's figure to another's in each turn, from the least to the most."""
    return sorted(here / there for here, there in zip(measured[side][figure], measured[base][figure], strict=True))


def rows(measured: Measured) -> list[list[str]]:
    lines = []
    for name, figures in measured.items():
        cells = [f"{statistics.median(figures[figure]):.2f}" for figure in FIGURES]
        cells += [f"{statistics.median(ratios(measured, figure, name, FLOOR)):.2f}" for figure in ("p50_ms", "cpu_us")]
        lines.append([name, *cells])
    return lines


def single_rows(measured: Measured) -> list[list[str]]:
    lines = []
    for name, figures in measured.items():
        among = ratios(measured, "cpu_us", name, PRIMARY)
        medians = (statistics.median(figures[figure]) for figure in ("cpu_us", "redis_cpu_us", "idle_percent"))
        spread = f"{statistics.median(among):.2f} ({among[0]:.2f} to {among[-1]:.2f})"
        lines.append([name, *(f"{value:.2f}" for value in medians), spread])
    return lines


def judged(measured: Measured) -> dict[str, float]:
    """The service's medians over 12 shards that have a goal."""
    here = measured[HERE]
    if "p50_ms" in here:
        return {P50: statistics.median(here["p50_ms"])}
    among = ratios(measured, "cpu_us", HERE, PRIMARY)
    return {RATIO: statistics.median(among), IDLE: statistics.median(here["idle_percent"])}


def missed(measured: Measured) -> str:
    """The goals that were missed."""
    values = judged(measured).items()
    return "\n".join(f"{name}: {value:.2f}, not {GOALS[name]:g}" for name, value in values if value > GOALS[name])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.everyone", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=300, help="in each turn of each side")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--compare", type=Path, metavar="CHECKOUT", help="the version in another folder")
    parser.add_argument("--single", action="store_true", help="events each for one user, and no streams at all")
    options = parser.parse_args()
    other = options.compare.resolve() if options.compare else None
    if options.single:
        measured = measure_single(options.events, options.turns)
        print(table(SINGLE_HEAD, single_rows(measured)))
    else:
        measured = measure(other, options.events, options.turns)
        print(table(HEAD, rows(measured)))
    if OTHER in measured:
        for figure in ("p50_ms", "cpu_us"):
            among = ratios(measured, figure, HERE, OTHER)
            print(f"{figure}, here to other: {among[0]:.3f} {statistics.median(among):.3f} {among[-1]:.3f}")
    for name, value in judged(measured).items():
        print(f"goal, {name}, at most {GOALS[name]:g}: {value:.2f}")
    sys.exit(missed(measured) or None)


if __name__ == "__main__":
    main()
