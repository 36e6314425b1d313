"""`python -m tests.simulation SEED [SECONDS]` repeats one run, or runs further seeds for so many seconds."""

from __future__ import annotations

import sys
import time

from tests.simulation.world import simulate


def main() -> None:
    seed, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 0)
    while True:
        started = time.monotonic()
        outcome = simulate(seed)
        counts = dict(outcome.counts)
        print(
            f"{seed}: {outcome.simulated_s:.0f} s in {time.monotonic() - started:.1f} s, {outcome.digest[:8]}, {counts}"
        )
        if outcome.problems:
            print(outcome)
            sys.exit(1)
        seed += 1
        if time.monotonic() > until:
            return


if __name__ == "__main__":
    main()
