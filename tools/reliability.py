"""Writes the table of the last `make test-faults` into docs/reliability.md: `python -m tools.reliability`."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PAGE = HERE / "docs" / "reliability.md"
FIGURES = HERE / "tests" / "output" / "faults.json"
BEGIN, END = "<!-- figures: written by `make test-faults` -->", "<!-- end of figures -->"


def main() -> None:
    if not FIGURES.exists():
        sys.exit(f"{FIGURES.relative_to(HERE)} does not exist: run `make test-faults`")
    figures = json.loads(FIGURES.read_text())
    lines = [BEGIN, f"Run of {datetime.now(UTC):%Y-%m-%d}, on one machine with 2 cores.", ""]
    lines += ["| case | what was seen | seed |", "|---|---|---|"]
    lines += [_row(name, values) for name, values in sorted(figures.items())]
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + "\n".join([*lines, END]) + after)


def _row(name: str, values: dict[str, object]) -> str:
    seed = values.pop("seed")
    seen = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
    return f"| {name.removeprefix('test_').replace('_', ' ')} | {seen} | {seed} |"


if __name__ == "__main__":
    main()
