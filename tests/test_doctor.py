"""`notifier doctor`: what lies between browsers and the service is named, with the lines that mend it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner

from notifier import doctor
from notifier.cli import main
from notifier.doctor import Result, Target, fixes, stream
from notifier.doctor.public import Public
from notifier.settings import load
from tests.commands import CREDENTIALS, clean_environment
from tests.faulty_http import FaultyServer, send
from tests.pasted import Document
from tests.proxies import APACHE, CADDY, HAPROXY, NGINX, RIGHT, proxies
from tests.stream_reader import StreamReader
from tests.support import API_KEY, Service, free_port, running, subscriber_token

pytestmark = pytest.mark.slow

MOST = 4
ORIGIN = "https://shop.example"
NAMED: dict[tuple[str, str], set[str]] = {
    ("nginx", "buffering"): set(),
    ("nginx", "buffered-gzip"): {"compression"},
    ("nginx", "example"): {"compression"},
    ("HAProxy", "obedient"): set(),
    ("HAProxy", "behind"): set(),
}
"""What is named where a mistake does not bear the name of its check."""
MISTAKES = {"nginx": NGINX, "HAProxy": HAPROXY, "Apache": APACHE, "Caddy": CADDY}
CASES = [(proxy, mistake) for proxy, mistakes in MISTAKES.items() for mistake in mistakes]


def diagnose(url: str, user: str, *, origin: str = "") -> dict[str, Result]:
    """Every result, by name."""
    target = Target(url, subscriber_token(user), user, API_KEY, origin)
    return {result.name: result for result in doctor.diagnose(target, load())}


def weak(results: dict[str, Result]) -> set[str]:
    return {name for name, result in results.items() if result.verdict == "weakens"}


# Behind proxies


PAGE = Document("docs/operate.md")


class Diagnoses:
    """What the doctor says of every address, and the output of the command in the docs."""

    def __init__(self, urls: dict[tuple[str, str], str], certificate: Path) -> None:
        self._certificate = str(certificate)
        # At the same time: each waits for heartbeats.
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(urls) + 1) as pool:
            patch.setenv("SSL_CERT_FILE", self._certificate)
            example = pool.submit(self._run_example, urls["nginx", "example"])
            results = pool.map(lambda case: diagnose(urls[case], "-".join(case), origin=ORIGIN), urls)
            self.results = dict(zip(urls, results, strict=True))
            self.example = example.result()

    def _run_example(self, url: str) -> subprocess.CompletedProcess[str]:
        command = PAGE.block("sh", "notifier doctor").replace("https://notifier.example.org", url)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = clean_environment(**CREDENTIALS, SSL_CERT_FILE=self._certificate, PATH=path)
        return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def diagnoses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Diagnoses]:
    folder = tmp_path_factory.mktemp("proxies")
    # The idle proxies cut after 5 s.
    env = {"NOTIFIER_HEARTBEAT_S": "7", "NOTIFIER_CORS_ORIGINS": ORIGIN}
    with running(Service(env=env)) as service, proxies(folder, service.port) as urls:
        yield Diagnoses(urls, folder / "cert.pem")


@pytest.mark.programs
@pytest.mark.parametrize(("proxy", "mistake"), CASES)
def test_the_mistake_of_a_proxy_is_named_with_the_line_that_mends_it(
    diagnoses: Diagnoses, proxy: str, mistake: str
) -> None:
    results = diagnoses.results[proxy, mistake]
    names = set() if mistake == RIGHT else NAMED.get((proxy, mistake), {mistake})
    assert weak(results) == names, {name: results[name].seen for name in ("compression", "buffering", "idle")}
    for name in names:
        assert re.search(rf"^{proxy} +\S", results[name].fix, re.MULTILINE), results[name]


@pytest.mark.parametrize("proxy", MISTAKES)
def test_each_fix_has_a_mistake_that_it_is_for(proxy: str) -> None:
    without = {"buffering"} if proxy == "Apache" else set()
    assert set(fixes.FIXES) - set(MISTAKES[proxy]) == without


@pytest.mark.programs
def test_the_proxy_that_answers_is_the_only_one_whose_lines_are_printed(diagnoses: Diagnoses) -> None:
    assert diagnoses.results["nginx", "compression"]["compression"].fix.startswith("nginx     gzip off;")
    assert len(diagnoses.results["nginx", "compression"]["compression"].fix.splitlines()) == 1
    behind_haproxy = diagnoses.results["HAProxy", "buffering"]["buffering"]
    assert "X-Accel-Buffering: no" in behind_haproxy.seen
    assert "nginx" not in behind_haproxy.fix


@pytest.mark.programs
def test_the_example_of_the_docs_is_what_the_command_prints(diagnoses: Diagnoses) -> None:
    done = diagnoses.example
    assert (done.returncode, done.stderr) == (1, "")
    # The page has other indented lines: this output stands between its command and the table of the checks.
    printed = PAGE.text.partition("notifier doctor https")[2].partition("\n| check |")[0]
    lines = (line.removeprefix("    ") for line in printed.splitlines() if line.startswith("    "))
    number = re.compile(r"\d+(\.\d+)?")
    assert [number.sub("N", line) for line in done.stdout.splitlines()] == [number.sub("N", line) for line in lines]


# The command, without a proxy


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    env = {"NOTIFIER_HEARTBEAT_S": "0.5", "NOTIFIER_CORS_ORIGINS": ORIGIN}
    env["NOTIFIER_MAX_STREAMS_PER_USER"] = str(MOST)
    with running(Service(env=env)) as service:
        yield service


def run(*args: str, **settings: str) -> tuple[int, str]:
    """The exit code and the output of the command, in this process."""
    result = CliRunner().invoke(main, ["doctor", *args], env=settings)
    return result.exit_code, result.output


def refused(*args: str, **settings: str) -> str:
    code, output = run(*args, **settings)
    assert code == 2, output
    (line,) = output.splitlines()
    return line


def test_where_all_is_well_the_exit_code_is_0_and_each_check_is_a_line(service: Service) -> None:
    code, output = run(service.url, **CREDENTIALS)
    assert code == 0, output
    lines = [line for line in output.splitlines() if not line.startswith(" ")]
    assert {line.split()[0] for line in lines} == {"ok", "skipped"}
    assert [line.split()[1] for line in lines if line.startswith("skipped")] == ["cors:", "broker:"]


def test_json_has_the_same_checks_and_no_secret(service: Service) -> None:
    token = subscriber_token("ann")
    code, output = run(f"{service.url}/", "--json", "--origin", ORIGIN, NOTIFIER_TOKEN=token, NOTIFIER_API_KEY=API_KEY)
    assert code == 0, output
    report = json.loads(output)
    assert (report["ok"], report["url"]) == (True, service.url)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["cors"]["verdict"] == checks["replay"]["verdict"] == "ok"
    assert token not in output
    assert API_KEY not in output


def test_a_wrong_key_and_a_wrong_token_are_named_and_not_shown(service: Service) -> None:
    key, token = "another-key-0123456789", subscriber_token("ann")[:-4] + "AAAA"
    code, output = run(service.url, "--key", key, "--token", token)
    assert code == 1
    assert "weakens  token: 401 at /v1/stream: invalid token" in output
    assert "weakens  publish: 401 at POST /v1/events: unknown API key" in output
    assert "skipped  stream" in output
    assert key not in output
    assert token not in output


class Closing(FaultyServer):
    """Closes each connection when a second call comes on it, as a proxy whose idle time is over at that moment."""

    def __init__(self) -> None:
        self.served: set[tuple[str, int]] = set()
        super().__init__()

    def answer(self, request: BaseHTTPRequestHandler, client: str, number: int, body: bytes) -> None:
        if request.client_address in self.served:
            request.close_connection = True
        else:
            self.served.add(request.client_address)
            send(request, 200, {}, b"{}")


def test_a_proxy_that_closes_an_idle_connection_is_asked_on_a_new_one() -> None:
    server = Closing()
    with contextlib.closing(Public(Target(server.url("x"), "token", "ann", "key"))) as public:
        assert [public.publish(number).status_code for number in range(3)] == [200] * 3
    server.stop()


def test_an_address_without_the_service_is_named(service: Service) -> None:
    code, output = run(f"{service.url}/elsewhere", **CREDENTIALS)
    assert code == 1
    assert "no stream is there" in output


def test_what_cannot_be_asked_has_the_exit_code_2(service: Service) -> None:
    assert "no answer at" in refused(f"http://127.0.0.1:{free_port()}", **CREDENTIALS)
    assert "is not an address" in refused("notifier.example.org", **CREDENTIALS)
    assert "give --token, or" in refused(service.url, NOTIFIER_API_KEY=API_KEY)
    assert "give --key" in refused(service.url, NOTIFIER_TOKEN=subscriber_token("ann"))
    assert "no user" in refused(service.url, "--token", "a.b.c", **CREDENTIALS)


def test_a_broker_that_weakens_a_promise_is_a_finding_with_its_server(service: Service) -> None:
    code, output = run(service.url, **CREDENTIALS, NOTIFIER_BROKER_URL="memory:")
    assert code == 1
    assert "weakens  broker-persistence: memory: a restart forgets" in output


def test_pages_of_an_origin_that_is_not_allowed_are_named(service: Service) -> None:
    cors = diagnose(service.url, "cora", origin="https://other.example")["cors"]
    assert cors.verdict == "weakens"
    assert cors.fix.splitlines()[0] == "service   NOTIFIER_CORS_ORIGINS=https://other.example"


@pytest.mark.parametrize("refused", [False, True])
def test_a_clock_that_differs_is_named_also_where_it_makes_the_token_invalid(
    service: Service, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    now, token = time.time, subscriber_token("dora")
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    token = subscriber_token("dora") if refused else token
    results = {result.name: result for result in doctor.diagnose(Target(service.url, token, "dora", API_KEY), load())}
    assert weak(results) == ({"token", "clock"} if refused else {"clock"})
    assert "behind this machine's" in results["clock"].seen


def test_the_long_watch_goes_on_where_the_service_ends_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Service(env={"NOTIFIER_HEARTBEAT_S": "0.3", "NOTIFIER_STREAM_LIFE_S": "2"})) as service:
        public = Public(Target(service.url, subscriber_token("ella"), "ella", API_KEY))
        monkeypatch.setattr(stream, "LONG_S", 2.5)
        # No stream lives as long as the watch.
        idle = stream.check_quiet(public, 0.3, long=True)
        public.close()
    assert idle.verdict == "ok"


def test_the_option_long_watches_longer_than_two_heartbeats(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LONG_S", 2.5)
    code, output = run(service.url, **CREDENTIALS)
    assert (code, "ok       idle: 2 heartbeats" in output) == (0, True), output
    began = time.monotonic()
    code, output = run(service.url, "--long", **CREDENTIALS)
    assert (code, "ok       idle: " in output) == (0, True), output
    assert time.monotonic() - began >= stream.LONG_S


def test_a_stream_that_the_service_refuses_is_named_with_the_reason(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST):
            reader = stack.enter_context(contextlib.closing(StreamReader(service.url, "full")))
            reader.next("hello")
        results = diagnose(service.url, "full")
    assert weak(results) == {"stream"}
    assert "bye" in results["stream"].seen
    assert results["idle"].verdict == "skipped"
