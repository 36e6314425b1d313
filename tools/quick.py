"""`make test-quick`: the tests that need Python and nothing else, in two processes: the Django side, and the rest.

Arguments go to both: `python -m tools.quick -x`. tests/quick.py says which tests these are.
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "tools.no_skips", "-m", "not programs and not slow"]
PARTS = (["tests", "--ignore", "tests/django"], ["tests/django"])


def main() -> int:
    started = time.monotonic()
    first, second = (
        subprocess.Popen([*COMMAND, *part, *sys.argv[1:]], stdout=output, stderr=subprocess.STDOUT, text=True)
        for part, output in zip(PARTS, (None, subprocess.PIPE), strict=True)
    )
    text, _ = second.communicate()
    codes = (first.wait(), second.returncode)
    print(f"\nThe Django side:\n{text}\n{time.monotonic() - started:.0f} s in all", flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
