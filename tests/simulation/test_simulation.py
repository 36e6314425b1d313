"""The simulation itself: one seed gives one run, and its oracle sees known defects."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.simulation.mutations import DEFECTS, with_defect
from tests.simulation.shrink import shrunk
from tests.simulation.world import simulate
from tests.support import REPOSITORY

BUDGET_S = 200.0
"""A defect must be seen within this time."""


def test_a_seed_repeats_exactly_also_in_another_process() -> None:
    here = simulate(2, act_s=8)
    assert len(here.trace) > 50
    assert simulate(2, act_s=8).digest == here.digest
    code = "from tests.simulation.world import simulate; print(simulate(2, act_s=8).digest)"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=env, capture_output=True, check=True)
    assert there.stdout.decode().strip() == here.digest


def test_another_seed_gives_another_run() -> None:
    assert simulate(2, act_s=4).digest != simulate(4, act_s=4).digest


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_known_defect_is_seen(defect: str) -> None:
    until_s = time.monotonic() + BUDGET_S
    with with_defect(defect):
        for seed in (DEFECTS[defect].seen_at, *range(1, 1000)):
            if simulate(seed).problems:
                return
            assert time.monotonic() < until_s, f"not seen up to seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_failing_run_names_its_seed_and_is_repeated_with_fewer_incidents() -> None:
    with with_defect("no resync after a lost link"):
        runs = (simulate(seed, act_s=20) for seed in range(1, 100))
        outcome = next(run for run in runs if run.problems and len(run.incidents) > 5)
        shorter = shrunk(outcome, budget_s=BUDGET_S)
        assert shorter.problems
        assert len(shorter.incidents) < len(outcome.incidents)
        again = simulate(shorter.seed, [incident.number for incident in shorter.incidents], act_s=20)
    assert again.digest == shorter.digest
    assert f"python -m tests.simulation {outcome.seed} --only" in str(shorter)
