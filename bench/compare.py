"""Two versions of this service, measured in turn in one run: what `python -m bench --compare OTHER_CHECKOUT` prints.

A machine's speed drifts by more than versions differ, so only pairs that follow each other are compared: the ratio
here : other of each round, as minimum, median and maximum over the rounds. Under 1 this version needs less.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import system, works
from bench.load import Load
from bench.peers import ALL
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.run import Sizes
from bench.system import REPOSITORY

FIGURES = {
    "connect": ("cpu_us", "memory_kib"),
    "broadcast": ("cpu_us", "p50_ms", "p99_ms"),
    "saturated": ("cpu_us",),
    "one by one": ("cpu_us", "redis_cpu_us"),
    "batch": ("cpu_us",),
    "latency": ("p50_ms", "p99_ms"),
}
"""By work, what is compared: all of them are better when they are smaller."""

Measured = dict[tuple[str, str], float]


def compare(other: Path, sizes: Sizes, *, rounds: int, on_redis: bool, say: Callable[[str], None]) -> list[str]:
    """The table of ratios. `other` is a checkout of another version; both run under this Python."""
    kind = NotifierOnRedis if on_redis else Notifier
    pairs: dict[tuple[str, str], list[float]] = {}
    for number in range(1, rounds + 1):
        # In turn, so that neither always comes first.
        order = [REPOSITORY, other] if number % 2 else [other, REPOSITORY]
        measured = {checkout: _measure(kind, checkout, sizes) for checkout in order}
        for figure, value in measured[REPOSITORY].items():
            if before := measured[other].get(figure):
                pairs.setdefault(figure, []).append(value / before)
        say(f"round {number} of {rounds}")
    return _table(pairs)


def _measure(kind: type[Notifier], checkout: Path, sizes: Sizes) -> Measured:
    measured: Measured = {}

    def note(work: str, figures: works.Figures) -> None:
        assert not figures.get("faults"), f"{checkout}: {work} had {figures['faults']} faults"
        measured.update({(work, name): figures[name] for name in FIGURES[work] if name in figures})

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        program = system.build("load", folder)
        peer = kind(folder, checkout=checkout)
        streams, publisher = Load(program, folder), Load(program, folder)
        try:
            peer.start()
            _works(works.Bench(peer, streams, publisher), sizes, note)
        finally:
            peer.stop()
            streams.stop()
            publisher.stop()
    return measured


def _works(bench: works.Bench, sizes: Sizes, note: Callable[[str, works.Figures], None]) -> None:
    note("connect", works.connect(bench, sizes.streams, ALL))
    note("broadcast", works.broadcast(bench, sizes.streams, sizes.light_per_s, sizes.seconds))
    note("saturated", works.broadcast(bench, sizes.streams, sizes.saturated_per_s, sizes.saturated_s))
    bench.streams.cut()
    works.connect(bench, sizes.streams, None)
    note("one by one", works.targeted(bench, sizes.streams, sizes.events))
    note("batch", works.targeted(bench, sizes.streams, sizes.events, how="batch"))
    note("latency", works.targeted(bench, sizes.streams, int(1000 * sizes.seconds), per_s=1000))


def _table(pairs: dict[tuple[str, str], list[float]]) -> list[str]:
    lines = [f"{'':28} {'min':>7} {'median':>7} {'max':>7}"]
    for (work, name), ratios in pairs.items():
        figures = (min(ratios), statistics.median(ratios), max(ratios))
        lines.append(f"{work + ', ' + name:28} " + " ".join(f"{ratio:7.3f}" for ratio in figures))
    return lines
