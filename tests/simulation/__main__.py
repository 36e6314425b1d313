"""`python -m tests.simulation SEED` repeats one run; `--seconds` runs further seeds, `--only` leaves out incidents."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.world import simulate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--seconds", type=float, default=0, help="how long further seeds are run")
    parser.add_argument("--only", help="the numbers of the incidents that happen, separated by commas")
    options = parser.parse_args()
    only = None if options.only is None else [int(number) for number in options.only.split(",") if number]
    seed, until_s = options.seed, time.monotonic() + options.seconds
    while True:
        started_s = time.monotonic()
        outcome = simulate(seed, only)
        took_s = time.monotonic() - started_s
        print(f"{seed}: {outcome.simulated_s:.0f} s in {took_s:.1f} s, {outcome.digest[:8]}, {dict(outcome.counts)}")
        if outcome.problems:
            print(outcome)
            sys.exit(1)
        seed += 1
        if time.monotonic() > until_s:
            return


if __name__ == "__main__":
    main()
