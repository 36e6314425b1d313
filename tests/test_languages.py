"""The programs of docs/languages.md, all at once: producers and listeners through refusals and a killed service."""

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
LATER = [f"later {number}" for number in range(5)]


@dataclass
class Language:
    """The two programs of a language, for a user and a task of its own: all run at once."""

    suffix: str
    folder: Path

    def command(self, kind: str) -> list[str]:
        """Write the program, compile it where it has to be, and return what runs it."""
        (title,) = [name for name in PROGRAMS if name.lower() == f"{kind}.{self.suffix}"]
        file = self.folder / self.suffix / title
        file.parent.mkdir(exist_ok=True)
        text = re.sub(r"\b42\b", self.suffix, PROGRAMS[title])
        file.write_text(re.sub(r"\b(report|batch|import)-7\b", rf"\1-{self.suffix}", text), "utf-8")
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
        return [{"sh": "bash", "mjs": "node", "php": "php", "rb": "ruby", "java": "java"}[self.suffix], str(file)]


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


@pytest.fixture
def languages(tmp_path: Path) -> list[Language]:
    return [Language(suffix, tmp_path) for suffix in NAMES]


def test_each_language_has_a_section() -> None:
    text = (REPOSITORY / "docs" / "languages.md").read_text("utf-8")
    assert set(NAMES.values()) <= set(re.findall(r"^## (.*)$", text, re.MULTILINE))


def test_producers_and_listeners_of_all_languages(languages: list[Language], tmp_path: Path) -> None:
    port = free_port()
    service = on_file(tmp_path / "notifier.db", port)
    env = {"NOTIFIER_URL": service.url, "NOTIFIER_API_KEY": API_KEY, "NOTIFIER_JWT_SECRET": JWT_SECRET}
    running: list[Process] = []
    try:
        listeners = {each.suffix: Process(each.command("listener"), env=env) for each in languages}
        running += listeners.values()
        for suffix in listeners:
            wait_for(
                lambda suffix=suffix: _is_online(service, suffix), timeout_s=60, what=f"a stream of {NAMES[suffix]}"
            )
        producers = {each.suffix: Process(each.command("producer"), env=env) for each in languages}
        running += producers.values()
        for suffix in producers:
            wait_for(lambda suffix=suffix: _done(service, suffix) > 0, timeout_s=60, what=f"a task of {NAMES[suffix]}")
        assert re.search(r'notifier_publishes_total\{.*status="429"\} [1-9]', httpx.get(f"{service.url}/metrics").text)
        service.process.child.kill()
        service.process.stop()
        service = on_file(tmp_path / "notifier.db", port)
        for suffix, producer in producers.items():
            before = _done(service, suffix)
            wait_for(
                lambda suffix=suffix, before=before: _done(service, suffix) > before,
                timeout_s=60,
                what=f"more of {suffix}",
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
        service.process.stop()


def _user(service: Service, user: str, method: str, path: str) -> httpx.Response:
    headers = bearer(subscriber_token(user))
    return httpx.request(method, f"{service.url}{path}", headers=headers, timeout=30)


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
