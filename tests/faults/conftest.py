"""The sizes of the fault cases, and the figures that they measure.

`make test` runs every case at a quick size; `make test-faults` (NOTIFIER_FAULTS=full) at the size that
docs/reliability.md reports, and writes that page's table.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support import REPOSITORY, RedisServer, running
from tests.topologies import KINDS

FULL = os.environ.get("NOTIFIER_FAULTS") == "full"
FAULT_KINDS = KINDS if FULL else KINDS[:1]
"""The kinds of servers that the cases of clusters and Sentinels run on."""
FIGURES = REPOSITORY / "tests" / "output" / "faults.json"


@dataclass(frozen=True)
class Scale:
    """Sizes of the cases."""

    full: bool

    def __call__(self, quick: float, full: float) -> float:
        return full if self.full else quick

    def whole(self, quick: int, full: int) -> int:
        return full if self.full else quick


@pytest.fixture(scope="session")
def scale() -> Scale:
    return Scale(full=FULL)


@pytest.fixture
def seed() -> random.Random:
    """Randomness whose seed is printed with a failure; NOTIFIER_SEED repeats it."""
    number = int(os.environ.get("NOTIFIER_SEED") or random.randrange(1 << 30))
    print(f"NOTIFIER_SEED={number}")
    seeded = random.Random(number)
    seeded.number = number  # type: ignore[attr-defined]  # shown beside the figures
    return seeded


@pytest.fixture
def figure(request: pytest.FixtureRequest, scale: Scale, seed: random.Random) -> Callable[..., None]:
    """`figure(sent=..., lost=0, ...)` records what a case measured, for the table in docs/reliability.md."""

    def record(**values: object) -> None:
        print(request.node.name, values)
        if scale.full:
            FIGURES.parent.mkdir(exist_ok=True)
            figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
            figures[request.node.name] = {"seed": seed.number, **values}  # type: ignore[attr-defined]
            FIGURES.write_text(json.dumps(figures, indent=1))

    return record


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    """A Redis of this test's own, with an append-only file."""
    with running(RedisServer(append_only=True)) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test's own."""
    with running(RedisServer()) as server:
        yield server
