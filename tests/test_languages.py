"""The programs of docs/languages.md, all at once: producers and listeners through what a network does to them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.faulty_http import Hop, SilentStreams
from tests.pasted import titled
from tests.support import (
    API_KEY,
    JWT_SECRET,
    REPOSITORY,
    Process,
    Service,
    bearer,
    free_port,
    subscriber_token,
    wait_for,
)

pytestmark = [pytest.mark.programs, pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAMS = titled("docs/languages.md")
NAMES = {"sh": "curl", "mjs": "Node", "php": "PHP", "rb": "Ruby", "go": "Go", "java": "Java", "cs": "C#"}
"""Of the languages, by the suffix of their files."""
SILENCE_S = 3
"""After so long without a byte the listeners of a test give up on a stream: 40 s on the page."""
LATER = [f"later {number}" for number in range(5)]


@dataclass
class Language:
    """The two programs of a language, for a user and a task of its own: all run at once."""

    suffix: str
    folder: Path

    def command(self, kind: str, silence_s: int = 40) -> list[str]:
        """Write the program, compile it where it has to be, and return what runs it."""
        (title,) = [name for name in PROGRAMS if name.lower() == f"{kind}.{self.suffix}"]
        file = self.folder / self.suffix / title
        file.parent.mkdir(exist_ok=True)
        text = re.sub(r"\b42\b", self.suffix, PROGRAMS[title])
        text = re.sub(r"\b(report|batch|import)-7\b", rf"\1-{self.suffix}", text)
        if kind == "listener":
            text, limits = re.subn(r"\b40\b", str(silence_s), text)
            assert limits, f"{title} has no limit of silence"
        file.write_text(text, "utf-8")
        program = str(file.with_suffix(".exe"))
        if self.suffix == "go":
            environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(self.folder / "cache")}
            subprocess.run(["go", "build", "-o", program, str(file)], check=True, env=environment, timeout=120)
            return [program]
        if self.suffix == "cs":
            compiler = ["mcs", "-warnaserror", "-r:System.Net.Http.dll", f"-out:{program}", str(file)]
            subprocess.run(compiler, check=True, timeout=120)
            return ["mono", program]
        if self.suffix == "mjs":
            (self.folder / self.suffix / "node_modules").unlink(missing_ok=True)
            (self.folder / self.suffix / "node_modules").symlink_to(REPOSITORY / "node_modules")
        if self.suffix == "java":  # without the compiler for programs that run for long: a third of the time
            return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", str(file)]
        return [{"sh": "bash", "mjs": "node", "php": "php", "rb": "ruby"}[self.suffix], str(file)]


def on_file(path: Path, port: int) -> Service:
    """A service that ends streams after two seconds, and refuses more than some calls a second."""
    env = {
        "NOTIFIER_BROKER_URL": f"sqlite://{path}",
        "NOTIFIER_STREAM_LIFE_S": "2",
        "NOTIFIER_HEARTBEAT_S": "1",
        "NOTIFIER_PUBLISH_RATE": "20",
    }
    return Service(port=port, env=env)


def subjects(listener: Process) -> list[str]:
    lines = listener.output().rpartition("\n")[0].splitlines()
    return [json.loads(line.partition(" ")[2])["subject"] for line in lines if line.startswith("message ")]


def lines_of(producer: Process) -> list[str]:
    """Without what curl says of the calls that it repeats."""
    return [line for line in producer.output().splitlines() if not line.startswith(("curl: ", "Warning: "))]


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> list[Language]:
    folder = tmp_path_factory.mktemp("languages")
    return [Language(suffix, folder) for suffix in NAMES]


def test_each_language_has_a_section() -> None:
    text = (REPOSITORY / "docs" / "languages.md").read_text("utf-8")
    assert set(NAMES.values()) <= set(re.findall(r"^## (.*)$", text, re.MULTILINE))


def test_producers_and_listeners_of_all_languages(languages: list[Language], tmp_path: Path) -> None:
    port = free_port()
    service = on_file(tmp_path / "notifier.db", port)
    env = {"NOTIFIER_URL": service.url, "NOTIFIER_API_KEY": API_KEY, "NOTIFIER_JWT_SECRET": JWT_SECRET}
    running: list[Process] = []
    hop = Hop(port)
    try:
        listeners = {each.suffix: Process(each.command("listener"), env=env) for each in languages}
        running += listeners.values()
        for suffix in listeners:
            wait_for(
                lambda suffix=suffix: _is_online(service, suffix), timeout_s=60, what=f"a stream of {NAMES[suffix]}"
            )
        producers = {
            each.suffix: Process(each.command("producer"), env={**env, "NOTIFIER_URL": hop.url(each.suffix)})
            for each in languages
        }
        running += producers.values()
        for suffix, producer in producers.items():
            producer.wait_until(lambda suffix=suffix: _done(service, suffix) > 0, f"a task of {NAMES[suffix]}")
        wait_for(lambda: _has_refused(service), timeout_s=60, what="a call over the publish rate")
        for suffix, producer in producers.items():
            producer.wait_until(lambda suffix=suffix: hop.changes[suffix] > 3, f"changes by {NAMES[suffix]}")
            _assert_repeated(hop, suffix)
        hop.stop()
        service.process.child.kill()
        service.process.stop()
        service = on_file(tmp_path / "notifier.db", port)
        hop = Hop(port, hop.port, faults=False)
        for suffix, producer in producers.items():
            before = _done(service, suffix)
            producer.wait_until(
                lambda suffix=suffix, before=before: _done(service, suffix) > before, f"more of {NAMES[suffix]}"
            )
            _user(service, suffix, "POST", f"/v1/tasks/import-{suffix}/cancel").raise_for_status()
            assert producer.child.wait(60) == 0, producer.output()
            assert lines_of(producer) == ["message sent", "refused with 422", "cancelled"], suffix
            assert _user(service, suffix, "GET", f"/v1/tasks/import-{suffix}").json()["status"] == "cancelled"
        for subject in LATER:
            _publish(service, subject)
        due = ["Report ready", *LATER]
        for suffix, listener in listeners.items():
            wait_for(
                lambda listener=listener: len(subjects(listener)) >= len(due),
                timeout_s=60,
                what=f"messages in {suffix}",
            )
            assert subjects(listener) == due, suffix
    finally:
        for process in running:
            process.child.send_signal(signal.SIGKILL)
            process.stop()
        hop.stop()
        service.process.stop()


def test_listeners_leave_a_silent_stream(languages: list[Language]) -> None:
    streams = SilentStreams(kept_s=2 * SILENCE_S)
    listeners: dict[str, Process] = {}
    try:
        for each in languages:
            env = {"NOTIFIER_URL": streams.url(each.suffix), "NOTIFIER_JWT_SECRET": JWT_SECRET}
            listeners[each.suffix] = Process(each.command("listener", SILENCE_S), env=env)
        for suffix, listener in listeners.items():
            wait_for(
                lambda listener=listener: subjects(listener)[1:],
                timeout_s=60,
                what=f"the message after two silent streams in {NAMES[suffix]}",
            )
            assert subjects(listener) == ["before", "after"], suffix
            cursors = [call.headers.get("Last-Event-ID") or "" for call in streams.calls[suffix]]
            assert cursors[:4] == ["", "e-1", "e-1", "e-1"], suffix
            first, second, third = (call.at for call in streams.calls[suffix][:3])
            # The time of a call may be noted late, but nothing is written to it before: only `first` begins a silence
            # that is timed here. Between two calls, a listener pauses for a second.
            assert second - first >= SILENCE_S, suffix
            assert third - first >= 2 * SILENCE_S + 1, suffix
    finally:
        for listener in listeners.values():
            listener.child.send_signal(signal.SIGKILL)
            listener.stop()
        streams.stop()


def _assert_repeated(hop: Hop, suffix: str) -> None:
    """A producer repeated its first call as it was, after a refusal and after two lost answers."""
    message = hop.calls[suffix][:4]
    assert {call.line for call in message} == {"POST /v1/messages"}, suffix
    assert {call.headers["Idempotency-Key"] for call in message} == {f"report-{suffix}"}, suffix
    assert message[1].at - message[0].at >= 1, f"{suffix} does not wait as Retry-After says"


def _user(service: Service, user: str, method: str, path: str) -> httpx.Response:
    headers = bearer(subscriber_token(user))
    return httpx.request(method, f"{service.url}{path}", headers=headers, timeout=30)


def _has_refused(service: Service) -> bool:
    metrics = httpx.get(f"{service.url}/metrics", timeout=30).text
    return re.search(r'notifier_publishes_total\{.*status="429"\} [1-9]', metrics) is not None


def _done(service: Service, suffix: str) -> int:
    answer = _user(service, suffix, "GET", f"/v1/tasks/import-{suffix}")
    return int(answer.json()["done"]) if answer.status_code == 200 else 0


def _is_online(service: Service, user: str) -> bool:
    answer = httpx.get(f"{service.url}/v1/users/{user}/presence", headers=bearer(API_KEY), timeout=30)
    return bool(answer.raise_for_status().json()["online"])


def _publish(service: Service, subject: str) -> None:
    body = {"to": [f"user:{suffix}" for suffix in NAMES], "subject": subject}
    while True:
        answer = httpx.post(f"{service.url}/v1/messages", json=body, headers=bearer(API_KEY), timeout=30)
        if answer.status_code == 200:
            return
        assert answer.status_code == 429, answer.text
        time.sleep(float(answer.headers["retry-after"]))
