"""The benchmark's pages show the kept figures, and its goals can be missed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from bench import __main__ as program
from bench import chart, everyone, model, report, soak
from bench.run import Sizes
from tests.pasted import Document
from tests.support import REPOSITORY

pytestmark = pytest.mark.programs


def test_the_pages_show_the_run_that_is_kept() -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    assert report.text(run) in report.PAGE.read_text()
    assert model.text(run, model.Load()) in model.PAGE.read_text()
    assert chart.FILE.read_text() == chart.draw(run)


def test_the_command_in_the_page_of_the_model_gives_its_table() -> None:
    """Costs that the command does not name are those of the last run: a new one changes them."""
    page = model.PAGE.read_text()
    command = re.search(r"^```sh\npython (.+?)\n```", page, re.MULTILINE | re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", " "))
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    printed = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    table = page[command.end() :].partition("\n\n|  |")[2].partition("\n\n")[0].splitlines()
    rows = [line.split(" | ", 1)[1] for line in table if " | " in line and "---" not in line][1:]
    assert len(rows) == 4
    for row in rows:
        assert any(line.endswith(row) for line in printed), row
    costs = dict(word.split("=") for word in words if "=" in word)
    assert {name: float(value) for name, value in costs.items()} == pytest.approx(costs_of_12_shards(page))


def costs_of_12_shards(page: str) -> dict[str, float]:
    """The model's costs by the page's table of the last run, whose figures are compared with that run."""
    get = report.Figures(json.loads((REPOSITORY / "bench" / "results.json").read_text()))
    kept = {}
    for row, work, name, digits in (
        ("a connect, CPU of the service, µs", "connect", "cpu_us", 0),
        ("the same, CPU of the servers, µs", "connect", "redis_cpu_us", 0),
        ("an event for one by HTTP, CPU of the service, µs", "one by one", "cpu_us", 0),
        ("the same, CPU of the servers, µs", "one by one", "redis_cpu_us", 0),
        ("the same, memory of the servers, bytes", "one by one", "redis_bytes", 0),
        ("a delivery of an event for all, CPU, µs", "broadcast", "cpu_us", 1),
    ):
        primary, cluster = (round(get(server, work, name) or 0, digits) for server in (report.REDIS, report.CLUSTER))
        assert f"| {row} | {primary:,.{digits}f} | {cluster:,.{digits}f} |" in page
        kept[work, name] = cluster, cluster - primary
    event_us = round(get(report.REDIS, "from Redis", "cpu_us") or 0, 1)
    return {
        "connect_us": kept["connect", "cpu_us"][0],
        "redis_connect_us": kept["connect", "redis_cpu_us"][0],
        "delivery_us": kept["broadcast", "cpu_us"][0],
        "event_us": event_us + kept["one by one", "cpu_us"][1],
        "redis_event_us": kept["one by one", "redis_cpu_us"][0],
        "redis_event_bytes": kept["one by one", "redis_bytes"][0],
    }


def test_servers_that_were_measured_later_are_added_to_the_kept_run() -> None:
    kept = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    later = {"at": "2027-01-02", "sizes": vars(Sizes()), "results": {"new": {"for all": {"p50_ms": 0.25, "faults": 0}}}}
    run = program.with_servers_of(kept, later)
    assert run["results"] == {**kept["results"], **later["results"]}
    shown = report.text(run)
    assert f"Run of {kept['at']}" in shown
    assert "Added on 2027-01-02: new." in shown
    assert "| new | 0.25 |" in shown


def test_a_goal_that_is_not_met_is_shown_as_such() -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    run["results"][report.US]["connect many"]["memory_kib"] = 11.0
    assert "| memory of an idle stream, KiB | at most 10 | 11.00 |  | **no** |" in report.text(run)


@pytest.mark.parametrize(
    ("server", "work", "name", "value", "row"),
    [
        (report.SQLITE, "one by one", "per_s", 1.0, "| … with a file, events a second to the embedded broker's |"),
        (report.CLUSTER, "for all", "p50_ms", 1.6, "| for all over 12 shards, p50, ms |"),
    ],
)
def test_the_goals_of_each_broker_can_be_missed(server: str, work: str, name: str, value: float, row: str) -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    assert met(run, row) == "yes"
    run["results"][server][work][name] = value
    assert met(run, row) == "**no**"


def test_a_goal_is_judged_by_the_median_of_turns() -> None:
    goal = report.Goal("x", "at most 1.2", lambda get: 1.15, lambda value: value <= 1.2)
    assert goal.judged(1.15)
    assert not replace(goal, turns=report.Turns(1.1, 1.3, median=1.25)).judged(1.15)


def test_goals_that_are_judged_in_turns_have_the_figures_of_the_pages() -> None:
    """Each is entered by hand from a run of its own, which a page describes."""
    pages = " ".join(report.PAGE.read_text().partition(report.END)[2].split() + model.PAGE.read_text().split())
    turns = [goal.turns for goal in report.GOALS if goal.turns is not None]
    assert len(turns) == 3
    for turn in turns:
        spread = f"{turn.least:.2f} to {turn.most:.2f}"
        assert f"{turn.median:.2f} times ({spread}" in pages or f"{spread}, median {turn.median:.2f}" in pages


def met(run: report.RunRecord, row: str) -> str:
    (line,) = (line for line in report.text(run).splitlines() if line.startswith(row))
    return line.split(" | ")[-1].removesuffix(" |")


def test_a_server_that_fell_behind_meets_no_goal_by_it() -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    ours, bare = run["results"][report.REDIS]["from Redis"], run["results"][report.BARE_REDIS]["from Redis"]
    goal = "| from Redis, CPU to the bare program's |"
    ours["p50_ms"] = bare["p50_ms"] = report.BEHIND_MS
    assert goal in report.text(run)
    ours["p50_ms"] += 1
    assert goal not in report.text(run)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"p50_ms": [1.4, 1.6, 1.5]}, ""),
        ({"p50_ms": [1.4, 1.6, 1.7]}, "p50, ms: 1.60, not 1.5"),
        ({"cpu_us": [30, 20, 30], "idle_percent": [1.0]}, ""),
        ({"cpu_us": [31, 20, 31], "idle_percent": [1.0]}, "CPU to one primary's: 1.55, not 1.5"),
        ({"cpu_us": [30, 20, 30], "idle_percent": [1.1]}, "idle, % of a core: 1.10, not 1"),
    ],
)
def test_each_goal_of_12_shards_can_be_missed(figures: dict[str, list[float]], reason: str) -> None:
    assert everyone.missed({everyone.HERE: figures, everyone.PRIMARY: {"cpu_us": [20, 20, 20]}}) == reason


@pytest.mark.parametrize(("p50_ms", "status"), [(1.5, None), (1.6, "p50, ms: 1.60, not 1.5")])
def test_a_missed_goal_of_12_shards_is_the_commands_status(
    monkeypatch: pytest.MonkeyPatch, p50_ms: float, status: str | None
) -> None:
    figures = {name: [p50_ms] for name in everyone.FIGURES}
    monkeypatch.setattr(everyone, "measure", lambda *_: dict.fromkeys((everyone.FLOOR, everyone.HERE), figures))
    monkeypatch.setattr(sys, "argv", ["bench.everyone"])
    with pytest.raises(SystemExit) as ended:
        everyone.main()
    assert ended.value.code == status


def test_the_commands_of_the_page_are_accepted() -> None:
    known = {"bench": program.arguments(), "bench.soak": soak.arguments()}
    blocks = Document("docs/performance.md").blocks("sh")
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) > 5
    for command in commands:
        if command[:2] == ["python", "-m"]:
            known[command[2]].parse_args(command[3:])
        else:
            subprocess.run([*command, "--dry-run"], cwd=REPOSITORY, capture_output=True, check=True)
