"""Where the service's time goes in one work: `python -m bench.profile "notifier: one by one"`.

py-spy (`pip install py-spy`) samples the service while the work runs: it may do so as root, or as the service's user
where the system allows that. A line of Python that is in a system call or in C
counts as that line's function, so `write` is for the larger part the kernel's `send`. The profile of a connect has the
ends of the streams too, which are cut before each repetition.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import system
from bench.compare import NO, SCENARIOS, Scenario, Servers
from bench.run import Sizes

PY_SPY = Path(sys.executable).with_name("py-spy")
RATE_HZ = 500
SECONDS = 8
MIN_SHARE = 0.01
"""Functions with less are not shown one by one."""


def profile(scenario: Scenario, sizes: Sizes) -> tuple[Counter[str], float]:
    """The samples of each function, and the work's CPU in us an operation (py-spy's stops are not in it)."""
    with tempfile.TemporaryDirectory(prefix="profile-") as name:
        servers = Servers(Path(name), Path(name))
        try:
            bench = servers.bench("here", scenario.peer)
            servers.listen(bench, scenario.streams, scenario.count(sizes))
            record = Path(name) / "record"
            service = bench.peer.processes[-1]
            with subprocess.Popen(
                [
                    *(PY_SPY, "record"),
                    *("--pid", str(service.pid), "--rate", str(RATE_HZ)),
                    *("--duration", str(SECONDS), "--format", "raw", "--output", str(record)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as sampler:
                figures = {}
                while sampler.poll() is None:
                    if scenario.streams == NO:
                        bench.streams.cut()
                    figures = scenario.measure(bench, sizes)
                    assert not figures["faults"], f"{scenario.name}: {figures['faults']} faults"
                complaint = sampler.communicate()[1]
                if sampler.returncode:
                    raise SystemExit(f"py-spy failed: {complaint}")
            return by_function(record.read_text()), figures["cpu_us"]
        finally:
            servers.stop()


def by_function(record: str) -> Counter[str]:
    """Samples by the innermost function, of py-spy's raw format: `outer;inner (file:line) COUNT`."""
    samples: Counter[str] = Counter()
    for line in record.splitlines():
        stack, _, count = line.rpartition(" ")
        innermost = stack.rpartition(";")[2]
        samples[innermost.rpartition(":")[0] + ")" if ":" in innermost else innermost] += int(count)
    return samples


def table(samples: Mapping[str, int]) -> list[str]:
    """The functions with at least `MIN_SHARE`, and how many share the rest."""
    total = sum(samples.values())
    shown = [(name, count) for name, count in samples.items() if count >= MIN_SHARE * total]
    lines = [f"{count / total:6.1%}  {name}" for name, count in sorted(shown, key=lambda row: -row[1])]
    rest = total - sum(count for _, count in shown)
    return [*lines, f"{rest / total:6.1%}  {len(samples) - len(shown)} other functions, each below {MIN_SHARE:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("work", help="a part of its name, as for --compare")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    given = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if given.work in scenario.name]
    if not chosen:
        sys.exit(f"no work contains {given.work!r}: " + "; ".join(scenario.name for scenario in SCENARIOS))
    sizes = Sizes.quick() if given.quick else Sizes()
    system.allow_many_files()
    if not PY_SPY.exists():
        sys.exit("py-spy is missing: pip install py-spy")
    for scenario in chosen:
        samples, cpu_us = profile(scenario, replace(sizes, events=sizes.events // scenario.turns))
        print(f"{scenario.name}: {cpu_us:.1f} us of CPU; {sum(samples.values())} samples", *table(samples), sep="\n")


if __name__ == "__main__":
    main()
