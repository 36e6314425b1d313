"""Hours of faults on a virtual clock, in seconds: see tests/simulation."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.conftest import Scale
from tests.simulation.incidents import ALL_INCIDENTS
from tests.simulation.shrink import shrunk
from tests.simulation.world import simulate


@pytest.mark.timeout(1800)
def test_no_simulated_fault_loses_an_event(scale: Scale, seed: random.Random, figure: Callable[..., None]) -> None:
    until_s = time.monotonic() + scale(5, 1200)
    number = seed.number  # type: ignore[attr-defined]
    counts: Counter[str] = Counter()
    runs, simulated_s = 0, 0.0
    while time.monotonic() < until_s:
        outcome = simulate(number + runs)
        if outcome.problems:
            pytest.fail(str(shrunk(outcome)))
        runs, simulated_s = runs + 1, simulated_s + outcome.simulated_s
        counts.update(outcome.counts)
    incidents = {kind: counts[kind] for kind in ALL_INCIDENTS}
    figure(
        runs=runs,
        simulated_hours=round(simulated_s / 3600, 1),
        events=counts["events"],
        lost=0,
        faults=sum(incidents.values()),
        **incidents,
    )
