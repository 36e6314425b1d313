"""docs/reliability.md: the figures of the fault tests, as `tools.reliability` writes them."""

from __future__ import annotations

import inspect
from typing import Any

from tests.faults import (
    test_cluster_faults,
    test_sentinel_faults,
    test_shards_away,
)
from tests.faults.conftest import case_of
from tools.reliability import MOVES, PAGE, written

SLOT_MOVES = "test_a_slot_that_moves_at_once_loses_nothing_and_concerns_no_other_shard"


def move(published: int, degraded_s: float, outage_s: float) -> dict[str, Any]:
    seen = {"published": published, "refused": 1, "resets": 2, "silent_losses": 0}
    return {**seen, "longest_degraded_s": degraded_s, "outage_s": outage_s}


def row_of(page: str, case: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {case} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_page_is_as_the_tool_writes_it() -> None:
    page = PAGE.read_text()
    assert written(page, {}, "2026-01-01") == page


def test_the_row_of_servers_that_move_sums_the_seeds_of_its_runs_up() -> None:
    runs = {f"{SLOT_MOVES}[valkey]": {"10": move(4000, 0.25, 40.5), "7": move(4100, 30.5, 0.5)}}
    after = written(PAGE.read_text(), runs, "2026-01-01")
    cells = ["7, 10", "8,100", "2", "4", "0", "0", "0", "30.5", "40.5"]
    assert row_of(after, "a slot moves at once, Valkey") == cells


def test_a_case_that_ran_replaces_its_row_and_the_others_stay() -> None:
    page = PAGE.read_text()
    runs = {
        "test_a_half_open_connection_is_freed": {"7": {"half_open": 3, "lost": 0}, "8": {"half_open": 5, "lost": 0}}
    }
    after = written(page, runs, "2026-01-01")
    assert row_of(after, "a half open connection is freed") == ["half open 3 to 5, lost 0", "7, 8", "2026-01-01"]
    assert len(after.splitlines()) == len(page.splitlines())


def test_every_case_of_servers_that_move_has_a_name_on_the_page() -> None:
    modules = (test_cluster_faults, test_sentinel_faults, test_shards_away)
    tests = {
        name.removeprefix("test_")
        for module in modules
        for name, test in inspect.getmembers(module, inspect.iscoroutinefunction)
        if "figure" in inspect.signature(test).parameters
    }
    assert tests == {variant.split(" ")[0] for variant in MOVES}


def test_a_case_is_named_without_its_seed() -> None:
    names = ("case[redis-seed7-killed]", "case[seed7-redis]", "case[seed7]", "case")
    assert [case_of(name, 7) for name in names] == ["case[redis-killed]", "case[redis]", "case", "case"]
