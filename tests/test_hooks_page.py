"""docs/hooks.md against the service: a real Alertmanager with the page's configuration, Grafana's body as its
documentation has it, and curl as for ntfy."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.api.support import problem_of
from tests.pasted import Document
from tests.support import Process, Service, bearer, free_port, running

PAGE: Final = Document("docs/hooks.md")
HOOKS: Final = PAGE.block("sh", "export NOTIFIER_HOOKS").split("'")[1]
PROMETHEUS, GRAFANA, NTFY = (entry.rpartition(":")[2].strip() for entry in HOOKS.split(","))
SECRET_TEXT: Final = "The text of a message is in no log"


@pytest.fixture(scope="module")
def hooks_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hooks") / "hooks"
    path.write_text(HOOKS)
    return path


@pytest.fixture(scope="module")
def server(hooks_file: Path) -> Iterator[Service]:
    with running(Service(env={"NOTIFIER_HOOKS_FILE": str(hooks_file)})) as service:
        yield service


@pytest.fixture
def inbox(server: Service) -> Iterator[Any]:
    """A function to the messages of user 7, a member of ops: the newest first. They are deleted before."""
    with server.user("7", groups=["ops"]) as client:

        def messages() -> list[dict[str, Any]]:
            return list(client.get("/v1/inbox").json()["messages"])

        for message in messages():
            client.delete(f"/v1/inbox/{message['id']}")
        yield messages


def posted(server: Service, hook: str, key: str = "", **request: Any) -> httpx.Response:
    headers = {**(bearer(key) if key else {}), **request.pop("headers", {})}
    return httpx.post(f"{server.url}/v1/hooks/{hook}", headers=headers, timeout=10, **request)


def grafana_group(status: str = "firing", **fields: Any) -> dict[str, Any]:
    """The body that Grafana's documentation of the webhook contact point shows, with one alert."""
    alert = {
        "status": status,
        "labels": {"alertname": "High memory usage", "team": "blue", "zone": "us-1"},
        "annotations": {"description": SECRET_TEXT, "runbook_url": "https://myrunbook.com/runbook/1234"},
        "startsAt": "2021-10-12T09:51:03.157076+02:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "https://play.grafana.org/alerting/1afz29v7z/edit",
        "fingerprint": "c6eadffa33fcdf37",
        "silenceURL": "https://play.grafana.org/alerting/silence/new?alertmanager=grafana",
        "dashboardURL": "",
        "panelURL": "",
        "values": {"B": 44.23943737541908, "C": 1},
    }
    return {
        "receiver": "My Super Webhook",
        "status": status,
        "orgId": 1,
        "alerts": [alert],
        "groupLabels": {},
        "commonLabels": {"team": "blue"},
        "commonAnnotations": {},
        "externalURL": "https://play.grafana.org/",
        "version": "1",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "title": "[FIRING:1]  (blue)",
        "state": "alerting",
        "message": "**Firing**",
        **fields,
    }


@pytest.mark.programs
def test_an_alert_of_alertmanager_is_shown_and_replaced_by_its_end(server: Service, inbox: Any, tmp_path: Path) -> None:
    config = PAGE.block("yaml", "webhook_configs").replace("https://notifier.example.org", server.url)
    for slow, quick in (("group_wait: 30s", "group_wait: 2s"), ("group_interval: 5m", "group_interval: 1s")):
        assert slow in config
        config = config.replace(slow, quick)
    path, port = tmp_path / "alertmanager.yml", free_port()
    path.write_text(config)
    subprocess.run(["amtool", "check-config", str(path)], check=True, capture_output=True)
    command = ["prometheus-alertmanager", f"--config.file={path}", f"--storage.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    process = Process(command)
    alerts = [{"labels": {"alertname": "DiskFull", "job": "db", "host": h, "severity": "page"},
               "annotations": {"summary": "A disk is full"}} for h in ("a", "b")]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        process.wait_until(lambda: answers(f"{address}/-/ready"), "Alertmanager")
        assert httpx.post(f"{address}/api/v2/alerts", json=alerts).status_code == 200
        process.wait_until(lambda: bool(inbox()), "the alert")
        (message,) = inbox()
        assert (message["to"], message["subject"], message["level"]) == (
            "group:ops", "A disk is full (2 alerts)", "error",
        )  # fmt: skip
        assert message["text"] == "host=a\nhost=b"
        ended = [{**alert, "endsAt": "2026-01-01T00:00:00Z", "startsAt": "2025-12-31T00:00:00Z"} for alert in alerts]
        assert httpx.post(f"{address}/api/v2/alerts", json=ended).status_code == 200
        process.wait_until(lambda: inbox()[0]["level"] == "success", "the end")
    finally:
        process.stop()
    (message,) = inbox()
    assert message["subject"] == "Resolved: A disk is full (2 alerts)"


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_grafana_signs_its_body_as_its_contact_point_says(server: Service, inbox: Any) -> None:
    provisioned = yaml.safe_load(PAGE.block("yaml", "contactPoints"))
    (receiver,) = provisioned["contactPoints"][0]["receivers"]
    settings = receiver["settings"]
    signing, url = settings["hmacConfig"], settings["url"].replace("https://notifier.example.org", server.url)
    for status in ("firing", "firing", "resolved"):
        body, now = json.dumps(grafana_group(status)).encode(), str(int(time.time()))
        signature = hmac.new(signing["secret"].encode(), f"{now}:".encode() + body, hashlib.sha256).hexdigest()
        headers = {signing["header"]: signature, signing["timestampHeader"]: now, "Content-Type": "application/json"}
        answer = httpx.request(settings["httpMethod"], url, content=body, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        (message,) = inbox()
        assert message["id"] == answer.json()["id"]
        if status == "firing":
            assert message["text"] == f"{SECRET_TEXT}: team=blue, zone=us-1"
            assert message["url"] == "https://play.grafana.org/alerting/1afz29v7z/edit"
            assert [button["text"] for button in message["actions"]] == ["Runbook", "Silence"]
    assert (message["subject"], message["level"]) == ("Resolved: High memory usage", "success")
    headers[signing["header"]] = "0" * 64
    problem_of(httpx.post(url, content=body, headers=headers), 401)


def test_a_signature_without_a_time_is_accepted_and_the_log_says_once_how_to_add_it(
    server: Service, inbox: Any
) -> None:
    body = json.dumps(grafana_group(groupKey="untimed")).encode()
    headers = {"X-Grafana-Alerting-Signature": hmac.new(GRAFANA.encode(), body, hashlib.sha256).hexdigest()}
    for _ in range(2):
        answer = httpx.post(f"{server.url}/v1/hooks/boards", content=body, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
    assert [message["id"] for message in inbox()] == [answer.json()["id"]]
    line = "hook boards: the signature covers no time"
    server.process.wait_until(lambda: line in server.process.output(), line)
    assert server.process.output().count(line) == 1
    assert "timestampHeader" in server.process.output()


def test_a_repeat_is_stored_once(server: Service, inbox: Any) -> None:
    body = grafana_group(groupKey="repeat")
    answers = [posted(server, "boards", GRAFANA, json=body).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert posted(server, "boards", GRAFANA, json={**body, "externalURL": "https://other/"}).json() == answers[0]
    assert [message["id"] for message in inbox()] == [answers[0]["id"]]


@pytest.mark.programs
def test_curl_posts_as_to_ntfy(server: Service, inbox: Any) -> None:
    command = PAGE.block("sh", "curl").replace("http://localhost:8000", server.url)
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
    (message,) = inbox()
    assert {name: message[name] for name in ("to", "subject", "text", "level", "url")} == {
        "to": "user:7", "subject": "Backup failed", "text": "The disk is full", "level": "warning",
        "url": "https://backup.example.org/42",
    }  # fmt: skip
    assert message["data"] == {"hook": "backup", "tags": ["warning", "disk"]}


def test_ntfy_posts_json_and_replaces_by_sequence_id(server: Service, inbox: Any) -> None:
    for title in ("Copying", "Copied"):
        post = {"topic": "backup", "title": title, "message": "42", "priority": 5, "sequence_id": "a", "tags": ["x"]}
        assert posted(server, "backup", NTFY, json=post).status_code == 200
    (message,) = inbox()
    assert (message["subject"], message["level"], message["text"]) == ("Copied", "error", "42")


def test_a_key_is_a_bearer_token_or_a_password_and_opens_only_its_hook(server: Service, inbox: Any) -> None:
    url = f"{server.url}/v1/hooks/backup"
    assert httpx.post(url, auth=("anyone", NTFY), content=b"1").status_code == 200
    assert httpx.post(url, auth=("", NTFY), content=b"1").status_code == 200
    before = inbox()
    for key in (PROMETHEUS, GRAFANA, NTFY + "x"):
        problem_of(posted(server, "backup", key, content=b"2"), 401)
    problem_of(posted(server, "backup", content=b"2"), 401)
    problem_of(httpx.post(f"{url}?auth={NTFY}&key={NTFY}", content=b"2"), 401)
    problem_of(posted(server, "backup", content=b"2", headers={"Authorization": "Basic !"}), 401)
    problem_of(httpx.post(f"{server.url}/v1/messages", headers=bearer(NTFY), json={}), 401)
    # A signature of the body is Grafana's way only.
    signature = hmac.new(NTFY.encode(), b"2", hashlib.sha256).hexdigest()
    problem_of(posted(server, "backup", content=b"2", headers={"X-Grafana-Alerting-Signature": signature}), 401)
    assert inbox() == before


def test_what_is_wrong_is_named(server: Service) -> None:
    problem_of(posted(server, "unknown-hook", NTFY), 404, "name")
    problem_of(posted(server, "prometheus", PROMETHEUS, json=grafana_group(version="3")), 422, "version")
    problem_of(posted(server, "boards", GRAFANA, json=grafana_group(alerts=[])), 422, "alerts")
    problem_of(posted(server, "boards", GRAFANA, content=b"{"), 400)
    problem_of(posted(server, "backup", NTFY, json={"priority": 7}), 422, "priority")
    problem_of(posted(server, "backup", NTFY, content=b"\xff"), 422, "body")
    problem_of(posted(server, "backup", NTFY, content=b"x" * 65537), 413, "body")
    problem_of(posted(server, "backup", NTFY, content=b"x\n" * 20000), 413)
    assert httpx.get(f"{server.url}/v1/hooks/backup").status_code == 405


def test_no_text_of_a_post_is_logged_or_counted(server: Service) -> None:
    assert posted(server, "boards", GRAFANA, json=grafana_group(groupKey="log")).status_code == 200
    posted(server, "boards", GRAFANA, json=grafana_group(status=SECRET_TEXT))
    seen = server.process.output() + httpx.get(f"{server.url}/metrics").text
    for secret in (SECRET_TEXT, PROMETHEUS, GRAFANA, NTFY):
        assert secret not in seen


def test_sighup_reads_the_keys_again(server: Service, hooks_file: Path, inbox: Any) -> None:
    new = "new-ntfy-key-0123456789"
    hooks_file.write_text(f"{HOOKS},\nbackup:ntfy:user:7:{new}")
    line = "the credentials were read again"
    count = server.process.output().count(line)
    server.process.signal(signal.SIGHUP)
    server.process.wait_until(lambda: server.process.output().count(line) > count, line)
    assert [posted(server, "backup", key, content=b"1").status_code for key in (NTFY, new)] == [200, 200]


def test_the_page_names_what_ntfy_documents() -> None:
    from notifier.hooks.ntfy import NAMES

    table = "\n".join(line for line in PAGE.text.splitlines() if line.startswith("| "))
    shown = {word.lower() for word in re.findall(r"`([^`]+)`", table)}
    assert {alias for name, aliases in NAMES.items() if name != "delay" for alias in aliases} <= shown
    assert PAGE.left_out() == []


def test_calls_of_hooks_are_counted_by_status(server: Service) -> None:
    assert posted(server, "backup", NTFY, content="Done").status_code == 200
    assert posted(server, "backup", "another-key-0123456789", content="Done").status_code == 401
    assert posted(server, "prometheus", PROMETHEUS, json={"version": "4"}).status_code == 422
    metrics = httpx.get(f"{server.url}/metrics", timeout=10)
    assert metrics.status_code == 200, metrics.text
    for status in (200, 401, 422):
        assert re.search(rf'^notifier_publishes_total\{{.*kind="hook",status="{status}"\}} \d+$', metrics.text, re.M)
