"""The order of the works: which server does what, and how much of it.

Servers that are compared are measured one after the other. Each is started for its work, alone on the machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import system, works
from bench.load import Load
from bench.peers import ALL, SOME, Peer
from bench.peers.brokers import (
    NotifierOnCluster,
    NotifierOnFile,
    NotifierOnOneShard,
    NotifierOnPrimaries,
    NotifierOnSentinels,
)
from bench.peers.c_servers import Centrifugo, Mercure, MercureBolt, Nchan, Pushpin
from bench.peers.floor import BareHttp, BareRedis, Floor
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.peers.python_servers import DjangoEventstream, FastapiSse, SseStarlette
from bench.works import Bench

Results = dict[str, dict[str, Any]]
"""By server, by work: the work's figures."""


GO_SERVERS: tuple[type[Mercure | Centrifugo], ...] = (Mercure, MercureBolt, Centrifugo)
"""Servers that no package of Debian has: measured if their programs are on the path."""


BROKERS = (NotifierOnFile, NotifierOnSentinels, NotifierOnOneShard, NotifierOnCluster, NotifierOnPrimaries)
"""The service on each broker but the embedded one and one Redis."""


@dataclass(frozen=True)
class Sizes:
    """How much work."""

    streams: int = 5000
    many: int = 15_000
    seconds: float = 5.0
    light_per_s: float = 10.0
    """A rate that each of the fast servers keeps up with at `streams`."""
    slow_per_s: float = 1.0
    """The same for the slow ones."""
    saturated_per_s: float = 200.0
    """More than any of them can send one by one; `saturated_s` is its duration."""
    saturated_s: float = 3.0
    events: int = 20_000
    slow_events: int = 2000
    redis_per_s: float = 8000.0
    all_streams: int = 60
    """Some on each of 12 shards."""
    all_events: int = 1000
    idle_s: float = 15.0

    @classmethod
    def quick(cls) -> Sizes:
        """To see whether everything works; the figures mean little."""
        return cls(
            streams=300, many=600, seconds=2, events=1000, slow_events=200, redis_per_s=1000, idle_s=2, all_events=100
        )


class Run:
    """One run of the benchmark. `say` gets a line for each work."""

    def __init__(self, sizes: Sizes, say: Callable[[str], None]) -> None:
        self._sizes = sizes
        self._say = say
        self.results: Results = {}

    def all(self, only: str = "") -> Results:
        """Measure every server whose name contains `only`."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            self._folder = Path(folder)
            self._program = system.build("load", self._folder)
            floor = system.build("floor", self._folder)
            self._only = only
            self._measure(BareHttp, self._connects)
            for make in _makers(lambda at: Floor(at, floor), Notifier, Nchan):
                self._measure(make, self._broadcasts)
            for make in _makers(lambda at: Floor(at, floor), Notifier, Nchan):
                self._measure(make, self._many)
            for make in _makers(BareHttp, Notifier, Nchan):
                self._measure(make, self._targets)
            self._measure(Notifier, self._storm)
            self._measure(Notifier, self._pauses)
            self._measure(Notifier, self._for_all)
            for make in _makers(BareRedis, NotifierOnRedis):
                self._measure(make, self._straight_from_redis)
            self._measure(NotifierOnRedis, self._broadcasts, self._targets, self._for_all)
            self._measure(NotifierOnRedis, self._channels)
            for make in BROKERS:
                self._measure(make, self._broadcasts, self._targets, self._for_all)
            two = "notifier, Redis, 2 workers"
            self._measure(lambda at: NotifierOnRedis(at, workers=2), self._broadcasts, name=two)
            for workers in (1, 4):
                self._processes(workers)
            for make in _makers(Pushpin, SseStarlette, FastapiSse, DjangoEventstream):
                self._measure(make, self._broadcasts, self._targets)
            for binary in GO_SERVERS:
                if shutil.which(binary.program):
                    self._measure(binary, self._broadcasts, self._targets)
                elif only in binary.name:
                    self._say(f"{binary.name:30} left out: the program {binary.program} is not on the path")
        return self.results

    def _measure(self, make: Callable[[Path], Peer], *programs: Callable[[Bench], object], name: str = "") -> None:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        peer = make(folder)
        self._name = name or peer.name
        if self._only not in self._name:
            return
        streams, publisher = Load(self._program, folder), Load(self._program, folder)
        try:
            peer.start()
            kept = self.results.setdefault(self._name, {})
            kept.setdefault("start", {"ready_s": peer.ready_s, "memory_mib": peer.memory_kib() / 1024})
            for program in programs:
                program(Bench(peer, streams, publisher))
                streams.cut()
        finally:
            peer.stop()
            streams.stop()
            publisher.stop()

    def _processes(self, workers: int) -> None:
        """D, A and B at so many worker processes, each with the streams of one load program."""
        self._name = NotifierOnRedis.name + (f", {workers} workers" if workers > 1 else "")
        if self._only not in self._name:
            return
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        peer = NotifierOnRedis(folder, workers=workers)
        *loads, publisher = [Load(self._program, folder) for _ in range(workers + 1)]
        try:
            peer.start()
            self.results.setdefault(self._name, {})
            sizes = self._sizes
            self._note("processes", works.processes(peer, loads, publisher, 2 * sizes.streams, sizes.events))
        finally:
            peer.stop()
            for load in (*loads, publisher):
                load.stop()

    def _note(self, work: str, figures: works.Figures) -> works.Figures:
        self.results[self._name][work] = figures
        shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items() if value)
        self._say(f"{self._name:30} {work:16} {shown}")
        return figures

    # Works

    def _connects(self, bench: Bench) -> works.Figures:
        """D."""
        return self._note("connect", works.connect(bench, self._sizes.streams, ALL))

    def _broadcasts(self, bench: Bench) -> None:
        """D and A."""
        sizes, fast = self._sizes, bench.peer.fast
        opened = self._connects(bench)["streams"]
        light = sizes.light_per_s if fast else sizes.slow_per_s
        self._note("broadcast", works.broadcast(bench, opened, light, sizes.seconds))
        if fast:
            self._note("saturated", works.broadcast(bench, opened, sizes.saturated_per_s, sizes.saturated_s))

    def _many(self, bench: Bench) -> None:
        """C and A, with many streams."""
        sizes = self._sizes
        opened = self._note("connect many", works.connect(bench, sizes.many, ALL))["streams"]
        self._note("idle", works.idle(bench, sizes.idle_s))
        self._note("broadcast many", works.broadcast(bench, opened, sizes.light_per_s / 5, sizes.seconds))

    def _targets(self, bench: Bench) -> None:
        """B and F."""
        sizes, peer = self._sizes, bench.peer
        works.connect(bench, sizes.streams, None)
        events = sizes.events if peer.fast else sizes.slow_events
        self._note("one by one", works.targeted(bench, sizes.streams, events))
        if isinstance(peer, Notifier):
            self._note("batch", works.targeted(bench, sizes.streams, events, how="batch"))
        if peer.fast:
            rate = 1000.0
            self._note("latency", works.targeted(bench, sizes.streams, int(rate * sizes.seconds), per_s=rate))

    def _straight_from_redis(self, bench: Bench) -> None:
        """B, published to Redis by the service's script."""
        sizes = self._sizes
        works.connect(bench, sizes.streams, None)
        rate = sizes.redis_per_s
        self._note("from Redis", works.targeted(bench, sizes.streams, sizes.events, per_s=rate, how="redis"))

    def _for_all(self, bench: Bench) -> None:
        """G."""
        sizes = self._sizes
        works.connect(bench, sizes.all_streams, None)
        self._note("for all", works.for_all(bench, sizes.all_events))

    def _channels(self, bench: Bench) -> None:
        """The cost of a channel, for the model."""
        count = self._sizes.streams // 5
        for groups in (0, 10):
            self._note(f"{groups} groups", works.channels(bench, count, groups))

    def _storm(self, bench: Bench) -> None:
        """E, beside D with as many at once."""
        count = self._sizes.streams
        self._note("connect at once", works.connect(bench, count, ALL, at_once=count))
        self._note("storm", works.storm(bench, count, 50))

    def _pauses(self, bench: Bench) -> None:
        works.connect(bench, self._sizes.many, SOME)
        bench.streams.lower_priority()
        others, spare = Load(self._program, self._folder), Load(self._program, self._folder)
        try:
            seconds = self._sizes.seconds
            self._note("pauses", works.pause(bench, others, spare, rate=2, seconds=seconds))
        finally:
            others.stop()
            spare.stop()


def _makers(*makers: Callable[[Path], Peer]) -> tuple[Callable[[Path], Peer], ...]:
    return makers
