"""The benchmark: its programs are built and run, and its checks can fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import commands, everyone, profile, restart, system, works
from bench.compare import SCENARIOS, compare
from bench.load import Load, stamped
from bench.peers import ALL
from bench.peers.brokers import NotifierOnOneShard, NotifierOnSentinels
from bench.peers.c_servers import Centrifugo, Mercure, MercureBolt
from bench.peers.floor import BareRedis, Floor
from bench.peers.notifier import Notifier, NotifierOnRedis
from bench.run import BROKERS, GO_SERVERS, Run, Sizes
from bench.works import Bench
from tests.support import REPOSITORY

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in ("load", "floor"):
        system.build(name, folder)
    return folder


@pytest.fixture(scope="module", params=["floor", "notifier"])
def bench(request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    peer = Floor(folder, programs / "floor") if request.param == "floor" else Notifier(folder)
    streams, publisher = Load(programs / "load", folder), Load(programs / "load", folder)
    try:
        peer.start()
        yield Bench(peer, streams, publisher)
    finally:
        peer.stop()
        streams.stop()
        publisher.stop()


def test_every_event_is_counted_at_every_stream(bench: Bench) -> None:
    bench.streams.cut()
    assert works.connect(bench, 70, ALL)["streams"] == 70
    figures = works.broadcast(bench, 70, 100, 0.5)
    assert (figures["events"], figures["deliveries"], figures["faults"]) == (50, 3500, 0)
    assert 0 < figures["p50_ms"] <= 1.1 * figures["max_ms"]


def test_an_event_that_is_repeated_or_lost_is_counted_as_a_fault(bench: Bench) -> None:
    bench.streams.cut()
    works.connect(bench, 3, ALL)
    bench.streams.zero()
    requests = [bench.peer.publish_request(ALL, stamped(number)) for number in (1, 2, 2)]
    bench.publisher.send(requests, bench.peer.publish_port, connections=1)
    bench.streams.expect(9, 60)
    assert bench.streams.counts() == [(3, 5, 1)] * 3  # three events, the sum of their numbers, one of them out of order


@pytest.mark.parametrize("bench", ["notifier"], indirect=True)
def test_targeted_events_reach_their_users(bench: Bench) -> None:
    bench.streams.cut()
    works.connect(bench, 20, None)
    for how in ("http", "batch"):
        figures = works.targeted(bench, 20, 200, how=how)
        assert (figures["events"], figures["faults"]) == (200, 0)
    bench.streams.cut()
    works.connect(bench, 20, ALL)
    storm = works.storm(bench, 20, 10)
    assert (storm["streams"], storm["faults"]) == (20, 0)


FULL_ONLY = {NotifierOnOneShard, NotifierOnSentinels}
"""Servers that share their code with others of the list: one shard with several, a primary with Redis alone."""


@pytest.mark.parametrize(
    "make", [pytest.param(make, marks=pytest.mark.full if make in FULL_ONLY else ()) for make in BROKERS]
)
def test_each_broker_delivers_what_is_measured(
    make: Callable[[Path], Notifier], programs: Path, tmp_path: Path
) -> None:
    peer = make(tmp_path)
    streams, publisher = Load(programs / "load", tmp_path), Load(programs / "load", tmp_path)
    try:
        peer.start()
        bench = Bench(peer, streams, publisher)
        works.connect(bench, 20, None)
        figures = works.targeted(bench, 20, 100)
        assert (figures["events"], figures["faults"]) == (100, 0)
        assert (figures["redis_cpu_us"] > 0) == (peer.redis is not None)
        for_all = works.for_all(bench, 20)
        assert (for_all["events"], for_all["faults"]) == (20, 0)
    finally:
        peer.stop()
        streams.stop()
        publisher.stop()


@pytest.mark.full
def test_an_event_for_all_is_measured_beside_the_bare_program_and_one_primary() -> None:
    measured = everyone.measure(None, events=20, turns=1)
    assert sorted(measured) == sorted([everyone.FLOOR, everyone.HERE, everyone.PRIMARY])
    for row in everyone.rows(measured):
        assert all(float(cell) > 0 for cell in row[1:]), row


@pytest.mark.full
def test_events_for_one_over_12_shards_are_measured_beside_one_primary() -> None:
    measured = everyone.measure_single(events=20, turns=1, streams=20, idle_s=1)
    assert sorted(measured) == sorted([everyone.HERE, everyone.PRIMARY])
    for row in everyone.single_rows(measured):
        assert all(float(cell) >= 0 for cell in row[1:4]), row


@pytest.mark.full
def test_a_start_on_a_full_file_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for url in ("memory:", f"sqlite://{tmp_path}/notifier.db"):
        assert restart.grown_mib(url, tmp_path, 200, 5) > 0
    assert 0 < restart.measure(channels=50, events=2) < 30
    assert len(re.findall(r"ready after \d+\.\d\d s, \d+ MiB", capsys.readouterr().out)) == 3


@pytest.mark.full
def test_several_processes_share_the_streams(programs: Path, tmp_path: Path) -> None:
    peer = NotifierOnRedis(tmp_path, workers=2)
    *loads, publisher = [Load(programs / "load", tmp_path) for _ in range(3)]
    try:
        peer.start()
        figures = works.processes(peer, loads, publisher, 20, 100)
        assert (figures["streams"], figures["faults"]) == (40, 0)
        assert min(figures[name] for name in ("cpu_us", "delivery_us", "event_us", "redis_event_us")) > 0
    finally:
        peer.stop()
        for load in (*loads, publisher):
            load.stop()


def test_the_commands_of_a_publish_are_named_with_what_each_takes() -> None:
    first, later = commands.measure(users=20)
    assert {"evalsha", "xadd", "publish", "incr"} <= first.keys() & later.keys()
    assert "exists" in first.keys() - later.keys()  # a channel without a history
    assert later["evalsha"] > sum(later.values()) - later["evalsha"] > 0  # the script's own part is the larger
    assert f"| xadd | {first['xadd']:.2f} | {later['xadd']:.2f} |" in commands.text(first, later)


@pytest.fixture
def go_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path whose programs only listen on the port of their configuration."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for kind in GO_SERVERS:
        program = folder / kind.program
        program.write_text(f"#!{sys.executable}\n{LISTENS}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


LISTENS = """
import pathlib, re, socket, sys
config = pathlib.Path(sys.argv[-1]).read_text()
port = re.search(r'(?:127.0.0.1:|"port": ")([0-9]+)', config)[1]
server = socket.create_server(("127.0.0.1", int(port)))
while True:
    server.accept()
"""


@pytest.mark.parametrize("kind", GO_SERVERS)
def test_the_go_servers_log_errors_only_and_mercure_speaks_the_version_of_the_requests(
    kind: type[Mercure | Centrifugo], go_servers: Path, tmp_path: Path
) -> None:
    peer = kind(tmp_path)
    try:
        peer.start()
    finally:
        peer.stop()
    if isinstance(peer, Centrifugo):
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["log"] == {"level": "error"}
        assert config["channel"] == {"without_namespace": {"history_size": 256, "history_ttl": "168h"}}
        return
    lines = [line.strip() for line in (tmp_path / "Caddyfile").read_text().splitlines()]
    assert lines.count("{") + sum(line.endswith(" {") for line in lines) == lines.count("}")
    assert "level ERROR" in lines
    assert "protocol_version_compatibility 8" in lines
    assert ("transport local" if kind is Mercure else "transport bolt {") in lines
    assert ("size 256" in lines) == (kind is MercureBolt)


def test_a_go_server_that_is_not_installed_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    lines: list[str] = []
    assert Run(Sizes.quick(), lines.append).all(only="Mercure") == {}
    assert len(lines) == 2
    assert all("left out: the program mercure is not on the path" in line for line in lines)


def test_the_program_lists_its_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout


SMALL = Sizes(streams=30, many=60, idle_s=2, seconds=0.3, saturated_s=0.2, events=100, redis_per_s=1000)


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.full)])
def test_two_versions_are_measured_in_turn_and_compared_as_ratios(rounds: int) -> None:
    lines = compare(REPOSITORY, SMALL, rounds=rounds, only="notifier: one by one", say=lambda line: None)
    assert len(lines) == 3
    here, other, base, *ratios = figures(lines[2])
    assert 0 < base < min(here, other)
    assert len(ratios) == 6
    for least, median, most in (ratios[:3], ratios[3:]):
        assert 0 < least <= median <= most


def test_quiet_streams_are_compared_by_the_cpu_of_their_heartbeats() -> None:
    lines = compare(REPOSITORY, SMALL, rounds=1, only="notifier: heartbeats", say=lambda line: None)
    assert len(lines) == 3
    assert lines[2].startswith("notifier: heartbeats, percent_of_a_core ")
    here, other, *ratios = figures(lines[2])
    assert len(ratios) == 3
    assert 0 < min(here, other) < 100


@pytest.mark.full
def test_every_work_is_compared_on_both_brokers_beside_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.compare.SCENARIOS", [replace(scenario, turns=1) for scenario in SCENARIOS])
    lines = compare(REPOSITORY, SMALL, rounds=1, say=lambda line: None)
    names = [(scenario, name) for scenario in SCENARIOS for name in scenario.figures]
    for (scenario, name), line in zip(names, lines[2:], strict=True):
        assert line.startswith(f"{scenario.name}, {name} ")
        has_base = scenario.base is not None and (name != "redis_cpu_us" or scenario.base is BareRedis)
        assert len(figures(line)) == (9 if has_base else 5)


def test_a_work_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(SystemExit, match="notifier, Redis: from Redis"):
        compare(REPOSITORY, SMALL, rounds=1, only="no such work", say=lambda line: None)


def test_samples_are_counted_for_the_innermost_function() -> None:
    record = "main (a.py:1);send (b.py:7) 3\nmain (a.py:1);send (b.py:9) 2\nmain (a.py:1) 995\n"
    samples = profile.by_function(record)
    assert samples == {"send (b.py)": 5, "main (a.py)": 995}
    assert profile.table(samples) == [" 99.5%  main (a.py)", "  0.5%  1 other functions, each below 1%"]


def figures(line: str) -> list[float]:
    """The numbers of a line of the table."""
    return [float(figure) for figure in line.rpartition(", ")[2].split()[1:]]


@pytest.mark.full
def test_the_cost_of_a_send_is_measured_in_every_state_of_the_service() -> None:
    command = [sys.executable, "-m", "bench.sending", "--calls", "20", "--pause-ms", "0"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in done.stdout.splitlines() if row.startswith("|")]
    assert [row[0] for row in rows] == ["service", "---", "(a bare row)", "running", "absent", "slow", "stopped"]
    waiting = {row[0]: row[-1] for row in rows}
    assert (waiting["running"], waiting["absent"]) == ("0", "21")
    assert int(waiting["stopped"]) >= 20  # the first may have been answered before the signal came
    assert "goal, p99 under 2 ms" in done.stdout
