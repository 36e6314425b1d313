"""The tests in four processes: more than half of a test is waiting, and two cores have room for that of others.

Arguments go to each: `python -m tools.side_by_side -x`. The output of the first part is shown as it comes, that of the
others when all have ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

COMMAND = (sys.executable, "-m", "pytest", "-p", "tools.no_skips")
NAMED = (("tests/broker", "tests/faults"), ("tests/django",), ("tests/api", "tests/browser"))
REST = ("tests", *(word for part in NAMED for folder in part for word in ("--ignore", folder)))


def run(options: Sequence[str]) -> int:
    """Run pytest on each part. The exit code is that of a part that failed, or 0."""
    parts = (REST, *NAMED)
    with ThreadPoolExecutor(len(parts)) as threads:
        runs = list(threads.map(lambda part: run_part(part, options), parts))
    for part, (_, text, _) in zip(NAMED, runs[1:], strict=True):
        print(f"\n{' and '.join(part)}:\n{text}")
    print("Seconds of each part:", ", ".join(f"{seconds:.0f}" for *_, seconds in runs), flush=True)
    return max(abs(code) for code, *_ in runs)  # negative: the number of the signal that ended it


def run_part(part: Sequence[str], options: Sequence[str]) -> tuple[int, str | None, float]:
    """Exit code; output, unless it was shown already; seconds."""
    started = time.monotonic()
    # Hundreds of processes are started: without this, each compiles the modules of the service again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [*COMMAND, *part, *options],
        stdout=None if part is REST else subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    return ended.returncode, ended.stdout, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
