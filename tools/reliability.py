"""Writes what the last `make test-faults` measured into docs/reliability.md: `python -m tools.reliability`.

A case that did not run keeps its row. One that ran has that of its runs, with all their seeds.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
PAGE = HERE / "docs" / "reliability.md"
FIGURES = HERE / "tests" / "output" / "faults.json"
END = "<!-- end of figures -->"
FIGURES_BEGIN = "<!-- figures: written by `make test-faults` -->"
MOVES_BEGIN = "<!-- moves: written by `make test-faults` -->"
FIGURES_HEAD = ["| case | what was seen | seed | day |", "|---|---|---|---|"]
MOVES_HEAD = [
    "| case | seeds | published | refused | resets | lost silently | twice | gone | longest degraded, s | outage, s |",
    "|---|---|---|---|---|---|---|---|---|---|",
]
MOVES = {
    "a_slot_that_moves_loses_nothing_and_concerns_no_other_shard": "a slot moves, key by key",
    "a_slot_that_moves_at_once_loses_nothing_and_concerns_no_other_shard": "a slot moves at once",
    "a_move_that_stops_halfway_refuses_its_shard_only": "a move that stops before its end",
    "an_idle_shard_that_moves_is_noticed": "an idle shard moves",
    "a_manual_failover_loses_nothing": "a manual failover in a cluster",
    "a_primary_that_is_silent_is_replaced_and_returns_as_a_replica killed": (
        "a primary of a cluster killed, node timeout 2 s"
    ),
    "a_primary_that_is_silent_is_replaced_and_returns_as_a_replica hung": "a primary of a cluster hung (`SIGSTOP`)",
    "two_of_three_primaries_die_and_come_back": "two of three primaries killed, then back",
    "a_refused_ssubscribe_degrades_the_shards_of_its_node_only": "`SSUBSCRIBE` refused by an ACL on a node",
    "a_service_that_is_cut_off_from_a_node_degrades_its_shards_only": "the service cut off from one node",
    "a_subscription_that_reaches_a_replica_is_not_used": "the service's subscriptions sent to a replica",
    "a_failover_by_the_sentinels_loses_nothing 0": "`SENTINEL FAILOVER`",
    "a_failover_by_the_sentinels_loses_nothing 1": (
        "the same, `min-replicas-to-write 1`, Sentinels with `publish-period 250`"
    ),
    "a_failover_by_the_sentinels_loses_nothing confirmed": "the same, and `NOTIFIER_REDIS_WAIT_REPLICAS=1`",
    "a_primary_that_is_silent_is_replaced_by_the_sentinels killed": "the primary behind Sentinels killed",
    "a_primary_that_is_silent_is_replaced_by_the_sentinels hung": (
        "the primary hung, and back after 6 s as a stale one"
    ),
    "without_any_sentinel_the_links_stay": "all Sentinels away, then back, then a failover",
    "a_publish_for_all_waits_for_the_shard_that_is_away_and_is_stored_once": (
        "an event for all while one of three primaries is away"
    ),
}
"""The cases of servers that move, by test and variant, and their names on the page."""

Values = Mapping[str, Any]
COUNTS = ("published", "refused", "resets", "silent_losses", "twice", "gone")
"""Summed up over the seeds of a row of servers that move."""
LONGEST = ("longest_degraded_s", "outage_s")
"""The longest of all seeds: by what a stream was told, and for which a publisher, or the listener of an idle shard, was
without the service."""


def main() -> None:
    if not FIGURES.exists():
        sys.exit(f"{FIGURES.relative_to(HERE)} does not exist: run `make test-faults`")
    PAGE.write_text(written(PAGE.read_text(), json.loads(FIGURES.read_text()), f"{datetime.now(UTC):%Y-%m-%d}"))


def written(page: str, figures: Mapping[str, Mapping[str, Values]], day: str) -> str:
    """The page with these figures: by case, by seed."""
    moves = {label: cells for label, *cells in _rows(page, MOVES_BEGIN)}
    others = {case: cells for case, *cells in _rows(page, FIGURES_BEGIN)}
    for name, by_seed in figures.items():
        if (label := _label(name)) is not None:
            moves[label] = _moved(by_seed)
        else:
            case = name.removeprefix("test_").replace("_", " ")
            others[case] = [_seen(list(by_seed.values())), ", ".join(by_seed), day]
    page = _put(page, FIGURES_BEGIN, [*FIGURES_HEAD, *(_line([case, *others[case]]) for case in sorted(others))])
    order = [f"{label}, {kind}" for label in MOVES.values() for kind in ("Redis", "Valkey")]
    rows = [_line([case, *moves[case]]) for case in order if case in moves]
    return _put(page, MOVES_BEGIN, [*MOVES_HEAD, *rows])


def _label(name: str) -> str | None:
    """The name on the page of a case of servers that move; None for another case."""
    test, _, params = name.removeprefix("test_").removesuffix("]").partition("[")
    given = [param for param in params.split("-") if param]
    variant = " ".join([test, *(param for param in given if param not in ("redis", "valkey"))])
    label = MOVES.get(variant)
    return label and f"{label}, {'Valkey' if 'valkey' in given else 'Redis'}"


def _moved(by_seed: Mapping[str, Values]) -> list[str]:
    """The cells of a case of servers that move."""
    runs = by_seed.values()
    counts = [f"{sum(int(run.get(name, 0)) for run in runs):,}" for name in COUNTS]
    return [", ".join(sorted(by_seed, key=int)), *counts, *(f"{max(run[name] for run in runs):g}" for name in LONGEST)]


def _seen(runs: Sequence[Values]) -> str:
    """The figures of a case; where its seeds differ, the least and the most."""
    shown = []
    for key in runs[0]:
        values = sorted(run[key] for run in runs)
        among = f"{values[0]}" if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
        shown.append(f"{key.replace('_', ' ')} {among}")
    return ", ".join(shown)


def _rows(page: str, begin: str) -> Iterator[list[str]]:
    """The cells of each row of the table between the marks."""
    table = page.partition(begin)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    for line in lines[1:]:
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _put(page: str, begin: str, lines: Sequence[str]) -> str:
    before, _, rest = page.partition(begin)
    return "\n".join([before + begin, "", *lines, "", END]) + rest.partition(END)[2]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
