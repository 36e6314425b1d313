"""Leaves out incidents of a run that fails, as long as it still fails."""

from __future__ import annotations

import time

from tests.simulation.world import Outcome, simulate


def shrunk(outcome: Outcome, *, budget_s: float = 60) -> Outcome:
    """The run with the fewest incidents that was seen to fail within the budget."""
    until_s = time.monotonic() + budget_s
    size = (len(outcome.incidents) + 1) // 2
    while size:
        start = 0
        while start < len(outcome.incidents):
            if time.monotonic() > until_s:
                return outcome
            numbers = [incident.number for incident in outcome.incidents]
            attempt = simulate(outcome.seed, numbers[:start] + numbers[start + size :], act_s=outcome.act_s)
            if attempt.problems:
                outcome = attempt
            else:
                start += size
        size //= 2
    return outcome
