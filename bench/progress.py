"""What `Progress` costs for each item, beside a counting generator and tqdm: `python bench/progress.py`.

One run, the candidates in turn within each repeat; the figure is the median over the repeats of (loop over the wrapped
iterable - bare loop of the same repeat) / items. The loops' bodies are empty, so nothing else is in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from django_bridge import Progress

Wrap = Callable[[Any], Iterable[Any]]


def counting(items: Iterable[Any], total: int) -> Iterator[Any]:
    """The obvious way: a generator that counts, and reports every tenth of the way."""
    step = max(1, total // 10)
    for done, item in enumerate(items, 1):
        yield item
        if done % step == 0:
            report()


def report() -> None:
    """What is called at each tenth."""


def candidates(total: int) -> dict[str, Wrap]:
    sink = open(os.devnull, "w")  # noqa: SIM115  # open for the whole run
    return {
        "bare loop": lambda items: items,
        "Progress": lambda items: Progress(items, parts=10, callback=report, total=total),
        "counting generator": lambda items: counting(items, total),
        "tqdm": lambda items: tqdm(items, file=sink, total=total),
    }


def sources(items: int) -> dict[str, Callable[[], Any]]:
    """Makers, since a generator is used up by one loop."""
    in_a_list = list(range(items))
    in_a_tuple = tuple(in_a_list)
    return {
        "range": lambda: range(items),
        "list": lambda: in_a_list,
        "tuple": lambda: in_a_tuple,
        "generator, with total=": lambda: (n for n in in_a_list),
    }


def loop_ns(wrap: Wrap, source: Any) -> int:
    started = time.perf_counter_ns()
    for _ in wrap(source):
        pass
    return time.perf_counter_ns() - started


def overheads(make: Callable[[], Any], items: int, repeats: int) -> dict[str, list[float]]:
    """Nanoseconds per item over the bare loop, of each repeat."""
    wraps = candidates(items)
    found: dict[str, list[float]] = {name: [] for name in wraps}
    for _ in range(repeats):
        bare = loop_ns(wraps["bare loop"], make())
        for name, wrap in wraps.items():
            took = bare if name == "bare loop" else loop_ns(wrap, make())
            found[name].append((took - bare) / items if name != "bare loop" else took / items)
    return found


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    print(f"Python {platform.python_version()}, {given.items:,} items, median of {given.repeats} (least to most)\n")
    print(row(["source", "loop", "ns per item over the bare loop"]))
    print(row(["---", "---", "---:"]))
    for source, make in sources(given.items).items():
        for name, values in overheads(make, given.items, given.repeats).items():
            spread = f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            print(row([source, name, f"{spread}, by itself" if name == "bare loop" else spread]))


if __name__ == "__main__":
    main()
