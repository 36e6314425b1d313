"""`make test-quick`: the tests that need Python and nothing else, in four processes.

Arguments go to each: `python -m tools.quick -x`. tests/quick.py says which tests these are.
"""

from __future__ import annotations

import sys

from tools import side_by_side

OPTIONS = ("-q", "-m", "not programs and not slow")

if __name__ == "__main__":
    sys.exit(side_by_side.run([*OPTIONS, *sys.argv[1:]]))
