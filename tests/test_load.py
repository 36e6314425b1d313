"""`notifier bench`: what it measures is so, what it misses it says, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier.event import Cursor
from notifier.load.plan import Plan
from notifier.load.tally import Latencies, Tally
from tests.commands import CREDENTIALS, call, clean_environment, refused
from tests.pasted import Document
from tests.support import ADMIN_KEY, API_KEY, REPOSITORY, RedisServer, Service, free_port, running

pytestmark = pytest.mark.slow

SHORT = ("--streams", "20", "--events-per-s", "40", "--seconds", "0.5")


def bench(url: str, *options: str, code: int = 0, key: str = API_KEY) -> dict[str, Any]:
    """The JSON of a run that must end with this exit code."""
    done = call("bench", url, "--json", *options, **CREDENTIALS, NOTIFIER_API_KEY=key)
    assert done.returncode == code, done
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"] == (code == 0)
    return answer


# What is counted


def tally(streams: int = 1, events: int = 9) -> Tally:
    plan = Plan("http://127.0.0.1", "key", ("token",) * streams, streams, events, 1, "group")
    counted = Tally(plan)
    for heard in counted.heard:
        heard.opened = True
    for event in range(events):
        counted.due[event] = 0.0
    return counted


def test_an_event_that_was_accepted_and_did_not_come_is_lost_on_each_stream_that_was_open() -> None:
    counted = tally(streams=3)
    counted.heard[2].opened = False
    counted.accept(0)
    counted.accept(8)
    counted.add(0, 8, Cursor("e", 2), 1.0)
    counted.add(1, 0, Cursor("e", 1), 1.0)
    counted.add(1, 8, Cursor("e", 2), 1.0)
    counted.add(1, 5, Cursor("e", 3), 1.0)  # not accepted: nothing was promised
    assert (counted.expected(), counted.lost()) == (4, 1)


def test_duplicates_and_ids_that_step_back_are_counted() -> None:
    counted = tally()
    for event, cursor in [(0, Cursor("e", 5)), (1, Cursor("e", 4)), (1, Cursor("e", 4)), (2, Cursor("f", 1))]:
        counted.add(0, event, cursor, 1.0)
    (heard,) = counted.heard
    assert (heard.misplaced, heard.duplicates, counted.delivered) == (1, 1, 3)


def test_percentiles_are_exact_to_one_percent() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.add(number / 1000)
    answer = latencies.percentiles()
    for name, ms in {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000}.items():
        assert answer[name] == pytest.approx(ms, rel=0.011), name


# Against a service


@pytest.mark.parametrize(("to", "expected"), [("user", 40), ("group", 400)])
def test_each_stream_gets_its_events_and_the_users_are_forgotten(service: Service, to: str, expected: int) -> None:
    answer = bench(service.url, *SHORT, "--users", "10", "--to", to, key=ADMIN_KEY)
    events = 20
    assert answer["events"]["accepted"] == events
    assert answer["deliveries"] == {
        "expected": expected, "delivered": expected, "lost": 0, "duplicates": 0, "out_of_order": 0,
    }  # fmt: skip
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["max"] < 15_000
    assert ("group:notifier-bench" in answer["remains"]) == (to == "group")
    assert "users" not in answer["remains"]


def test_two_workers_on_redis_deliver_all_and_a_key_without_admin_leaves_history(redis_service: Service) -> None:
    answer = bench(redis_service.url, *SHORT, "--users", "5")
    assert (answer["deliveries"]["delivered"], answer["deliveries"]["lost"]) == (80, 0)
    assert "5 users notifier-bench-*" in answer["remains"]
    assert "scope admin" in answer["remains"]


def test_streams_over_a_limit_are_refused_and_the_limit_is_named(service: Service) -> None:
    answer = bench(service.url, "--streams", "23", "--users", "1", "--seconds", "0.3", code=1)
    assert (answer["streams"]["opened"], answer["streams"]["refused"]) == (20, {"bye evicted": 3})
    assert answer["deliveries"]["lost"] == 0
    assert any("NOTIFIER_MAX_STREAMS_PER_USER" in hint for hint in answer["hints"])


def test_events_over_the_publish_rate_wait_and_none_is_lost() -> None:
    with running(Service(env={"NOTIFIER_PUBLISH_RATE": "10"})) as slow:
        answer = bench(slow.url, "--streams", "2", "--events-per-s", "100", "--seconds", "0.5")
    # More than two bursts of 20: also after a pause in which the rate allows another burst, some are refused.
    assert answer["events"]["repeated"]["status 429"] > 0
    assert answer["events"]["accepted"] == answer["deliveries"]["delivered"] == 50


@pytest.mark.programs
def test_a_worker_killed_in_the_middle_costs_reconnects_and_no_event(redis_server: RedisServer) -> None:
    with (
        running(Service(redis_url=redis_server.url, workers=2, env={"NOTIFIER_PREFIX": "load-kill:"})) as service,
        started(service.url, "--streams", "20", "--events-per-s", "100", "--seconds", "600") as program,
    ):
        wait_for_publishing(service)
        worker = int(re.findall(r"Started server process \[(\d+)\]", service.process.output())[0])
        os.kill(worker, signal.SIGKILL)
        wait_for_publishing(service)
        program.send_signal(signal.SIGINT)
        answer = json.loads(program.communicate(timeout=120)[0])
    assert (program.returncode, answer["deliveries"]["lost"], answer["deliveries"]["duplicates"]) == (0, 0, 0), answer
    assert sum(answer["streams"]["ended"].values()) > 0


def test_ctrl_c_ends_a_run_with_what_was_measured(service: Service) -> None:
    with started(service.url, "--streams", "5", "--seconds", "600") as program:
        wait_for_publishing(service)
        program.send_signal(signal.SIGINT)
        answer = json.loads(program.communicate(timeout=120)[0])
    assert answer["interrupted"]
    assert 0 < answer["events"]["accepted"] == answer["deliveries"]["delivered"] < answer["events"]["planned"]
    assert (program.returncode, answer["deliveries"]["lost"]) == (0, 0)


@contextlib.contextmanager
def started(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "notifier", "bench", url, "--json", *options]
    env = clean_environment(**CREDENTIALS)
    with subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            if program.poll() is None:
                program.kill()


def wait_for_publishing(service: Service) -> None:
    """Wait until the program has published an event that its own stream would get."""
    with service.user("notifier-bench-0") as client, client.stream("GET", "/v1/stream", timeout=120) as response:
        # Not the event with a negative number, by which the program asks whether it may publish.
        next(line for line in response.iter_lines() if re.search(r'"n":\d', line))


# What goes wrong on the way


class Hop:
    """A proxy that changes what the service sends."""

    def __init__(self, port: int, change: Callable[[bytes], bytes]) -> None:
        self._target, self._change = port, change
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            upward = threading.Thread(target=self._copy, args=(client, server, bytes), daemon=True)
            upward.start()
            self._copy(server, client, self._change)
            upward.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(change(data))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


SEVENTH = re.compile(rb'[0-9a-f]+\r\nid: [^\n]+\nevent: notifier\.bench\ndata: [^\n]*"n":7\}\n\n\r\n')
"""The chunk of one event. Other events may be read with it."""


def test_an_event_that_a_hop_swallows_is_reported_as_lost(service: Service) -> None:
    def swallow(data: bytes) -> bytes:
        # Another name of the same length, so that the chunk's length is right.
        return SEVENTH.sub(lambda event: event[0].replace(b"notifier.bench", b"swallowed.xxxx"), data)

    with running(Hop(service.port, swallow)) as hop:
        answer = bench(hop.url, "--streams", "2", "--events-per-s", "20", "--seconds", "0.5", code=1)
    assert answer["deliveries"]["lost"] == 1
    assert (answer["deliveries"]["expected"], answer["deliveries"]["delivered"]) == (10, 9)


def test_an_event_that_a_hop_repeats_is_reported_as_a_duplicate(service: Service) -> None:
    def repeat(data: bytes) -> bytes:
        return SEVENTH.sub(lambda event: event[0] * 2, data)

    with running(Hop(service.port, repeat)) as hop:
        answer = bench(hop.url, "--streams", "2", "--events-per-s", "20", "--seconds", "0.5", code=1)
    assert answer["deliveries"]["duplicates"] == 1
    assert answer["deliveries"]["lost"] == 0


# What is refused


def test_a_wrong_target_is_refused_with_the_reason(service: Service) -> None:
    other = {**CREDENTIALS, "NOTIFIER_JWT_SECRET": "another secret of more than 32 bytes, no less"}
    assert "is not an address such as" in refused("bench", "notifier.example", **CREDENTIALS)
    assert "no answer at" in refused("bench", f"http://127.0.0.1:{free_port()}", **CREDENTIALS)
    assert "401 at" in refused("bench", service.url, **other)
    assert "no notifier is there" in refused("bench", f"{service.url}/elsewhere", **CREDENTIALS)
    assert "/v1/events" in refused("bench", service.url, "--key", "wrong-key-0123456789", **CREDENTIALS)


def test_too_few_files_are_refused_before_a_stream_opens(service: Service) -> None:
    script = f"ulimit -n 150; exec {sys.executable} -m notifier bench {service.url} --streams 1000"
    command = ["bash", "-c", script]
    env = clean_environment(**CREDENTIALS)
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "raise `ulimit -Hn`" in done.stderr


# What is shown


def test_a_terminal_shows_a_bar_and_then_the_table(service: Service) -> None:
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "notifier", "bench", service.url, *SHORT]
    env = clean_environment(**CREDENTIALS)
    with subprocess.Popen(
        command, env=env, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=writer, text=True
    ) as program:
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(reader, 4096):
                shown += piece
        table = program.stdout.read() if program.stdout else ""
    os.close(reader)
    assert program.returncode == 0, table
    assert re.search(rb"\rpublishing \[#*-+\]", shown), shown
    assert shown.endswith(b"\r\x1b[K"), "the bar is removed"
    assert "deliveries  20 of 20" in table
    assert "\r" not in table


def test_the_example_of_the_docs_is_what_the_command_prints(service: Service) -> None:
    page = Document("docs/operate.md")
    command = page.block("sh", "notifier bench").replace("https://notifier.example.org", service.url)
    command = command.replace("--seconds 30", "--seconds 0.4")
    credentials = {**CREDENTIALS, "NOTIFIER_API_KEY": ADMIN_KEY}
    env = clean_environment(**credentials, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()[1:] if not line.startswith(" ")]
    printed = page.text.partition("notifier bench https")[2].partition("```")[2]
    example = [line.strip() for line in printed.splitlines() if line.startswith("    ")]
    assert [line.split()[0] for line in example if line.split()[0] in names] == names
