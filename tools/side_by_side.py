"""The tests in two processes: two cores need little more than half of the time.

Arguments go to both: `python -m tools.side_by_side -x`. The output of the second, the brokers, the Django side and the
fault tests, follows that of the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

COMMAND = (sys.executable, "-m", "pytest", "-p", "tools.no_skips")
SECOND = ("tests/broker", "tests/django", "tests/faults")
PARTS = (("tests", *(word for folder in SECOND for word in ("--ignore", folder))), SECOND)


def run(options: Sequence[str]) -> int:
    """Run pytest on both parts. The exit code is the larger of both."""
    started = time.monotonic()
    # Hundreds of processes are started: without this, each compiles the modules of the service again.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    first, second = (
        subprocess.Popen(
            [*COMMAND, *part, *options], stdout=output, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for part, output in zip(PARTS, (None, subprocess.PIPE), strict=True)
    )
    text, _ = second.communicate()
    second_s = time.monotonic() - started
    codes = (first.wait(), second.returncode)
    all_s = time.monotonic() - started
    print(
        f"\nThe brokers, the Django side and the fault tests:\n{text}\n{all_s:.0f} s in all, these {second_s:.0f} s",
        flush=True,
    )
    return max(codes)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
