"""`python -m bench`: every server, every work; the table, the JSON and the charts.

--quick     small sizes, to see whether everything works
--only TEXT only servers whose name contains TEXT; writes no files
--add       with --only: puts these servers into the kept run, beside the servers that it has, and writes the files
--compare CHECKOUT  this version and another one, in turn; writes no files. With --only "one by one" --rounds 3: three
            pairs of that work alone, on each broker ("Redis: one by one": on Redis)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import chart, report, system
from bench.compare import compare
from bench.run import Run, Sizes

RESULTS = system.REPOSITORY / "bench" / "results.json"


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to see whether everything works")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only servers, or works of --compare, whose name contains TEXT"
    )
    parser.add_argument("--add", action="store_true", help="put the servers of --only into the kept run")
    parser.add_argument("--compare", type=Path, metavar="CHECKOUT", help="this version and the one in another folder")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs of --compare")
    return parser


def main() -> None:
    options = arguments().parse_args()
    files = system.allow_many_files()
    sizes = Sizes.quick() if options.quick else Sizes()
    if files < sizes.many + 1000:
        sys.exit(
            f"{sizes.many} streams need as many open files in one process; this machine gives {files} (ulimit -Hn)"
        )
    if options.compare is not None:
        lines = compare(options.compare.resolve(), sizes, rounds=options.rounds, only=options.only, say=_say)
        print("\n".join(lines))
        return
    started = time.monotonic()
    results = Run(sizes, _say).all(options.only)
    run = {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": system.machine(),
        "sizes": vars(sizes),
        "results": results,
        "took_s": round(time.monotonic() - started),
    }
    if options.add and not options.quick:
        run = with_servers_of(json.loads(RESULTS.read_text()), run)
    print("\n" + report.text(run))
    if not options.only:
        print("Progress, beside other ways to count:\n", flush=True)
        subprocess.run([sys.executable, "-m", "bench.progress"], cwd=system.REPOSITORY, check=True)
    if not options.quick and (options.add or not options.only):
        RESULTS.write_text(json.dumps(run, indent=1) + "\n")
        report.write(run)
        chart.write(run)
        print(f"Written: {RESULTS.relative_to(system.REPOSITORY)}, docs/performance.md, docs/images/performance.svg")


def with_servers_of(kept: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """The kept run with another run's servers. A server that has other works in it keeps these."""
    results = kept["results"] | {
        server: kept["results"].get(server, {}) | works for server, works in run["results"].items()
    }
    added = kept.get("added", {}) | dict.fromkeys(run["results"], run["at"])
    return {**kept, "sizes": run["sizes"], "results": results, "added": added}


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
