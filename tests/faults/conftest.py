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

from tests.support import FULL, REPOSITORY, RedisServer, running
from tests.topologies import KINDS

FAULT_KINDS = KINDS if FULL else KINDS[:1]
"""The kinds of servers that the cases of clusters and Sentinels run on."""
SEEDS = [int(number) for number in os.environ.get("NOTIFIER_SEED", "").split(",") if number]
FIGURES = REPOSITORY / "tests" / "output" / "faults.json"


@dataclass(frozen=True)
class Scale:
    """Sizes of the cases."""

    full: bool

    def __call__(self, quick: float, full: float) -> float:
        return full if self.full else quick

    def whole(self, quick: int, full: int) -> int:
        return full if self.full else quick

    def bound_s(self, bound_s: float) -> float:
        """A bound of real time. The quick size runs on busy machines: it judges whether there is an end."""
        return bound_s if self.full else bound_s + 20


@pytest.fixture(scope="session")
def scale() -> Scale:
    return Scale(full=FULL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`NOTIFIER_SEED=101,102` runs each case with each of these seeds."""
    if "seed" in metafunc.fixturenames and len(SEEDS) > 1:
        metafunc.parametrize("seed", SEEDS, ids=[f"seed{number}" for number in SEEDS], indirect=True)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> random.Random:
    """Randomness whose seed is printed with a failure; NOTIFIER_SEED repeats it."""
    number = int(getattr(request, "param", 0) or (SEEDS[0] if SEEDS else random.randrange(1 << 30)))
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
            number = seed.number  # type: ignore[attr-defined]
            figures.setdefault(case_of(request.node.name, number), {})[str(number)] = values
            FIGURES.write_text(json.dumps(figures, indent=1))

    return record


def case_of(name: str, seed: int) -> str:
    """The name of a test without the seed that it was given."""
    test, _, params = name.removesuffix("]").partition("[")
    others = "-".join(param for param in params.split("-") if param and param != f"seed{seed}")
    return f"{test}[{others}]" if others else test


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
