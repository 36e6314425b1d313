"""The tests in two processes, the Django side and the rest: two cores need little more than half of the time.

Arguments go to both: `python -m tools.side_by_side -x`. The output of the Django side follows that of the rest.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

COMMAND = (sys.executable, "-m", "pytest", "-p", "tools.no_skips")
PARTS = (("tests", "--ignore", "tests/django"), ("tests/django",))


def run(options: Sequence[str]) -> int:
    """Run pytest on both parts. The exit code is the larger of both."""
    started = time.monotonic()
    first, second = (
        subprocess.Popen([*COMMAND, *part, *options], stdout=output, stderr=subprocess.STDOUT, text=True)
        for part, output in zip(PARTS, (None, subprocess.PIPE), strict=True)
    )
    text, _ = second.communicate()
    django_s = time.monotonic() - started
    codes = (first.wait(), second.returncode)
    all_s = time.monotonic() - started
    print(f"\nThe Django side:\n{text}\n{all_s:.0f} s in all, the Django side {django_s:.0f} s", flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
