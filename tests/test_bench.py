"""The benchmark: its programs are built and run, its checks can fail, its pages show the kept figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import chart, model, report, system, works
from bench.compare import FIGURES, compare
from bench.load import Load, stamped
from bench.peers import ALL
from bench.peers.floor import Floor
from bench.peers.notifier import Notifier
from bench.run import Sizes
from bench.works import Bench
from tests.support import REPOSITORY

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in ("load", "floor"):
        system.build(name, folder)
    return folder


@pytest.fixture(params=["floor", "notifier"])
def bench(request: pytest.FixtureRequest, programs: Path, tmp_path: Path) -> Any:
    peer = Floor(tmp_path, programs / "floor") if request.param == "floor" else Notifier(tmp_path)
    streams, publisher = Load(programs / "load", tmp_path), Load(programs / "load", tmp_path)
    try:
        peer.start()
        yield Bench(peer, streams, publisher)
    finally:
        peer.stop()
        streams.stop()
        publisher.stop()


def test_every_event_is_counted_at_every_stream(bench: Bench) -> None:
    assert works.connect(bench, 70, ALL)["streams"] == 70
    figures = works.broadcast(bench, 70, 100, 0.5)
    assert (figures["events"], figures["deliveries"], figures["faults"]) == (50, 3500, 0)
    assert 0 < figures["p50_ms"] <= 1.1 * figures["max_ms"]


def test_an_event_that_is_repeated_or_lost_is_counted_as_a_fault(bench: Bench) -> None:
    works.connect(bench, 3, ALL)
    bench.streams.zero()
    requests = [bench.peer.publish_request(ALL, stamped(number)) for number in (1, 2, 2)]
    bench.publisher.send(requests, bench.peer.publish_port, connections=1)
    bench.streams.expect(9, 5)
    assert bench.streams.counts() == [(3, 5, 1)] * 3  # three events, the sum of their numbers, one of them out of order


def test_targeted_events_reach_their_users(programs: Path, tmp_path: Path) -> None:
    peer = Notifier(tmp_path)
    streams, publisher = Load(programs / "load", tmp_path), Load(programs / "load", tmp_path)
    try:
        peer.start()
        bench = Bench(peer, streams, publisher)
        works.connect(bench, 20, None)
        for how in ("http", "batch"):
            figures = works.targeted(bench, 20, 200, how=how)
            assert (figures["events"], figures["faults"]) == (200, 0)
        streams.cut()
        works.connect(bench, 20, ALL)
        storm = works.storm(bench, 20, 10)
        assert (storm["streams"], storm["faults"]) == (20, 0)
    finally:
        peer.stop()
        streams.stop()
        publisher.stop()


def test_the_pages_show_the_run_that_is_kept() -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    assert report.text(run) in report.PAGE.read_text()
    assert model.text(run, model.Load()) in model.PAGE.read_text()
    assert chart.FILE.read_text() == chart.draw(run)


def test_a_goal_that_is_not_met_is_shown_as_such() -> None:
    run = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    run["results"][report.US]["connect many"]["memory_kib"] = 11.0
    assert "| memory of an idle stream, KiB | at most 10 | 11.00 | **no** |" in report.text(run)


def test_the_program_lists_its_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout


def test_two_versions_are_measured_in_turn_and_compared_as_ratios() -> None:
    sizes = Sizes(streams=40, seconds=0.5, saturated_s=0.2, events=100)
    lines = compare(REPOSITORY, sizes, rounds=2, on_redis=False, say=lambda line: None)
    assert len(lines) == 1 + sum(len(figures) for figures in FIGURES.values()) - 1  # no Redis, no CPU time of it
    for line in lines[1:]:
        least, median, most = (float(ratio) for ratio in line.split()[-3:])
        assert 0 < least <= median <= most
