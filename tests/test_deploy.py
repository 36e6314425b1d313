"""What `deploy/`, `Dockerfile` and `compose.yaml` promise, tried with the real programs where there is one here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
import yaml

from django_bridge.conf import Settings as BridgeSettings
from django_bridge.payload import Payload
from django_bridge.publisher.redis import RedisTransport
from notifier import cli, task
from notifier.settings import Settings
from tests.support import ADMIN_KEY, API_KEY, REPOSITORY, Process, Service, free_port, running, subscriber_token

DEPLOY = REPOSITORY / "deploy"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MiB = 1024 * 1024


class Listener:
    """A stream that is read line by line."""

    def __init__(self, url: str, user: str, *, address: str = "127.0.0.1", **headers: str) -> None:
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(local_address=address), timeout=httpx.Timeout(10), trust_env=False
        )
        headers["Authorization"] = f"Bearer {subscriber_token(user)}"
        self._response = self._client.stream("GET", f"{url}/v1/stream", headers=headers)
        self.response = self._response.__enter__()
        self._lines = self.response.iter_lines()

    def next(self, *names: str) -> tuple[str, Any]:
        """The next event of one of these names."""
        name = ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name in names:
                return name, json.loads(value)
        raise AssertionError(f"the stream ended before one of {names} came")

    def close(self) -> None:
        self._response.__exit__(None, None, None)
        self._client.close()


# The proxy


class Nginx:
    """The shipped configuration with two ports of its own."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.port = free_port()
        shipped = (DEPLOY / "nginx.conf").read_text()
        text = shipped.replace("listen 8080", f"listen 127.0.0.1:{self.port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
        assert text.count(str(self.port)) == 1
        assert text.count(str(service.port)) == 1
        (folder / "nginx.conf").write_text(text)
        self.command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        self.process = Process(self.command)
        self.process.wait_until(self._answers, "nginx")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False

    def stop(self) -> None:
        self.process.stop()


@pytest.fixture(scope="module")
def behind_nginx() -> Iterator[Service]:
    env = {"NOTIFIER_MAX_STREAMS_PER_ADDRESS": "2", "NOTIFIER_HEARTBEAT_S": "0.5"}
    with running(Service(env=env)) as service:
        yield service


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, behind_nginx: Service) -> Iterator[Nginx]:
    with running(Nginx(tmp_path_factory.mktemp("nginx"), behind_nginx)) as proxy:
        yield proxy


@pytest.mark.programs
def test_nginx_takes_the_shipped_configuration(tmp_path: Path) -> None:
    command = [NGINX, "-t", "-p", str(tmp_path), "-c", str(DEPLOY / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_events_pass_nginx_one_by_one(nginx: Nginx, behind_nginx: Service) -> None:
    listener = Listener(nginx.url, "ann")
    try:
        assert listener.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert listener.response.headers["cache-control"] == "no-store, no-transform"
        listener.next("hello")
        listener.next("ping")
        for number in range(3):
            body = {"to": ["user:ann"], "subject": f"Number {number}"}
            with behind_nginx.client() as publisher:
                assert publisher.post(f"{nginx.url}/v1/messages", json=body).status_code == 200
            sent = time.monotonic()
            assert listener.next("message")[1]["subject"] == f"Number {number}"
            assert time.monotonic() - sent < 0.4, "a ping pushed it out: nginx buffers"
    finally:
        listener.close()


def test_nginx_tells_the_service_who_the_client_is_and_believes_no_claim(nginx: Nginx) -> None:
    listeners = [Listener(nginx.url, "bob", address="127.0.0.2") for _ in range(2)]
    try:
        for one in listeners:
            one.next("hello")
        listeners.append(other := Listener(nginx.url, "bob", address="127.0.0.3"))
        assert other.next("hello", "bye")[0] == "hello"
        listeners.append(claims := Listener(nginx.url, "bob", address="127.0.0.2", **{"X-Forwarded-For": "192.0.2.1"}))
        assert claims.next("hello", "bye")[0] == "bye"
    finally:
        for one in listeners:
            one.close()


def test_nginx_bounds_headers_and_bodies(nginx: Nginx) -> None:
    large = httpx.get(f"{nginx.url}/v1/inbox", headers={"X-Large": "x" * 100_000})
    assert large.status_code in (400, 431)
    assert httpx.post(f"{nginx.url}/v1/batch", content=b" " * (MiB + 1)).status_code == 413


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/readyz", "/demo"])
def test_nginx_keeps_operation_inside(nginx: Nginx, path: str) -> None:
    assert httpx.get(nginx.url + path).status_code == 404


def test_nginx_logs_no_token(nginx: Nginx) -> None:
    assert httpx.get(f"{nginx.url}/v1/stream?token=a-token-in-the-address").status_code == 401
    log = (nginx.folder / "access.log").read_text()
    assert '"GET /v1/stream" 401' in log
    assert "a-token-in-the-address" not in log


# Redis with two users of few rights


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[int]:
    """A Redis under the shipped ACL file; its users' passwords are their names."""
    lines = []
    for line in (DEPLOY / "redis-users.acl").read_text().splitlines():
        name = line.split()[1]
        digest = hashlib.sha256(name.encode()).hexdigest()
        lines.append(line if name == "default" else f"{line} #{digest}")
    lines.append("user admin on nopass ~* &* +@all")
    (tmp_path / "users.acl").write_text("\n".join(lines) + "\n")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = Process([*command, "--aclfile", str(tmp_path / "users.acl")])

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(_as(port, "admin").ping())
        return False

    process.wait_until(answers, "redis-server")
    yield port
    process.stop()


def _as(port: int, user: str) -> redis.Redis:
    return redis.Redis(port=port, username=user, password=user)


def test_service_and_publisher_do_everything_with_the_rights_of_the_acl_file(guarded_redis: int) -> None:
    publisher = RedisTransport(BridgeSettings(redis_url=f"redis://publisher:publisher@127.0.0.1:{guarded_redis}/0"))
    url = f"redis://notifier:notifier@127.0.0.1:{guarded_redis}/0"
    with running(Service(redis_url=url, workers=2)) as service, service.client(ADMIN_KEY) as api:
        listener = Listener(service.url, "ann")
        listener.next("hello")
        _everything_by_http(service, api, listener)
        _everything_by_the_bridge(publisher, listener)
        assert api.get("/v1/users/ann/presence").json()["online"] is True
        assert api.post("/v1/users/ann/disconnect").status_code == 200
        assert listener.next("bye")[1]["reason"] == "revoked"
        assert api.delete("/v1/users/ann").is_success
        listener.close()
        # A new worker would load the scripts again: EVAL, not only EVALSHA.
        _as(guarded_redis, "admin").script_flush()
        assert api.post("/v1/messages", json={"to": ["all"], "subject": "After"}).status_code == 200
    publisher.close()
    # redis-py introduces itself where Redis knows the command, and does not mind a refusal.
    denied = [entry for entry in _as(guarded_redis, "admin").acl_log() if entry["object"] != "client|setinfo"]
    assert denied == []


def _everything_by_http(service: Service, api: httpx.Client, listener: Listener) -> None:
    for _ in range(2):
        body = {"to": ["user:ann", "all"], "subject": "By HTTP"}
        sent = api.post("/v1/messages", json=body, headers={"Idempotency-Key": "one"})
        assert sent.status_code == 200, sent.text
    identity = sent.json()["id"]
    assert listener.next("message")[1]["id"] == identity
    assert api.post("/v1/events", json={"to": ["all"], "type": "passing", "durable": False}).status_code == 200
    listener.next("passing")
    began = api.post("/v1/tasks", json={"to": ["user:ann"], "name": "By HTTP", "total": 2}).json()
    step = {"json": {"advance": 1}, "headers": {"Idempotency-Key": "two"}}
    for _ in range(2):
        assert api.patch(f"/v1/tasks/{began['id']}", **step).json()["done"] == 1
    listener.next("task")
    with service.user("ann") as ann:
        assert ann.get("/v1/inbox").json()["messages"][0]["id"] == identity
        assert ann.post("/v1/inbox/read", json={"ids": [identity]}).json() == {"unread": 0}
        assert ann.post("/v1/inbox/read", json={"all": True}).status_code == 200
        assert ann.delete(f"/v1/inbox/{identity}").status_code == 200
        assert ann.post(f"/v1/tasks/{began['id']}/cancel").status_code == 200
        assert api.patch(f"/v1/tasks/{began['id']}", json={"status": "cancelled"}).status_code == 200
        assert ann.get("/v1/tasks").json()["tasks"][0]["status"] == "cancelled"
        assert ann.delete(f"/v1/tasks/{began['id']}").status_code == 204
        assert ann.get("/v1/inbox/unread").json() == {"unread": 0}
    again = Listener(service.url, "ann", **{"Last-Event-ID": sent.json()["cursor"]})
    assert again.next("hello")[1]["recovered"] is True
    again.close()


def _everything_by_the_bridge(publisher: RedisTransport, listener: Listener) -> None:
    payload: Payload = {
        "id": uuid4().hex,
        "to": ["user:ann", "group:staff"],
        "subject": "By the bridge",
        "text": "",
        "from": None,
        "level": "info",
        "url": None,
        "data": {},
        "sent_at": None,
        "expires_at": None,
    }
    for attempt in publisher.message(payload):
        attempt(2.0)
    assert listener.next("message")[1]["subject"] == "By the bridge"
    made = task.begin(
        to=("user:ann",), name="By the bridge", state="", total=2, task_id=None, now_ms=int(time.time() * 1000)
    )
    publisher.create_task(made, uuid4().hex)(2.0)
    assert publisher.change_task(made.id, {"advance": 1}, uuid4().hex)(2.0).done == 1
    while listener.next("task")[1]["id"] != made.id:
        pass


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("DEL", "notifier:{0}:log:user:ann"),
        ("SET", "another", "1"),
        ("PUBLISH", "another", "1"),
        ("SUBSCRIBE", "notifier:{0}:ch:user:ann"),
        ("ZSCORE", "notifier:{0}:read:ann", "*"),
        ("EVAL", "return redis.call('FLUSHALL')", 0),
    ],
)
def test_the_publisher_may_do_nothing_else(guarded_redis: int, command: tuple[Any, ...]) -> None:
    with pytest.raises(redis.RedisError, match=r"(?i)permission|user executing the script can't"):
        _as(guarded_redis, "publisher").execute_command(*command)


def test_nobody_gets_in_without_a_password_of_their_own(tmp_path: Path) -> None:
    """The file as it is shipped has no passwords: no user but those who were given one can log in."""
    text = (DEPLOY / "redis-users.acl").read_text()
    assert "user default off" in text
    assert "nopass" not in text
    assert not re.search(r"\s[>#]", text)


def test_the_acl_allows_the_commands_that_the_service_uses_and_no_others() -> None:
    broker = REPOSITORY / "notifier" / "broker"
    scripts = "".join(path.read_text() for path in broker.rglob("*.lua"))
    code = "".join(path.read_text() for path in broker.rglob("*.py"))
    arguments = {"COUNT", "MAXLEN"}
    used = set(re.findall(r"'([A-Z]{3,})'", scripts)) - arguments
    used |= {
        f"{one}|{two}" if two else one for one, two in re.findall(r'(?:call|_send)\("([A-Z]+)"(?:, "([A-Z]+)")?', code)
    }
    # With HELLO; and where Redis is a cluster, announcements are sharded.
    used |= {"AUTH", "CLIENT|SETNAME", "SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "PUBSUB|SHARDNUMSUB"}
    line = next(one for one in (DEPLOY / "redis-users.acl").read_text().splitlines() if "user notifier" in one)
    assert {word[1:].upper() for word in line.split() if word.startswith("+")} == used


# The image


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def _last_stage() -> dict[str, str]:
    found: dict[str, str] = {}
    for word, rest in _instructions():
        if word == "FROM":
            found = {}
        found[word] = rest
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", ["Dockerfile", "examples/django_project/Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", path], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_in_two_stages_from_a_slim_base() -> None:
    stages = [rest for word, rest in _instructions() if word == "FROM"]
    assert stages == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    assert "-slim" in next(rest for word, rest in _instructions() if word == "ARG")


def test_the_image_runs_as_nobody_special_and_gets_its_signals() -> None:
    last = _last_stage()
    user = last["USER"].partition(":")[0]
    assert user.isdigit()
    assert int(user) > 0
    assert json.loads(last["ENTRYPOINT"]) == ["notifier"]
    assert json.loads(last["CMD"])[0] == "serve"


def test_what_the_image_is_built_from_exists_and_is_not_ignored() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    for word, rest in _instructions():
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                assert f"!{source}" in ignore, source


@pytest.mark.slow
def test_the_images_commands_make_a_service_that_its_health_check_likes(tmp_path: Path) -> None:
    """COPY, RUN, CMD and HEALTHCHECK as they stand, in a folder instead of an image; dependencies are borrowed."""
    source, target = tmp_path / "src", tmp_path / "target"
    source.mkdir()
    for word, rest in _instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *names, to = rest.split()
            for name in names:
                place = source / (to if to != "./" else name)
                from_here = REPOSITORY / name
                shutil.copytree(from_here, place, symlinks=True) if from_here.is_dir() else shutil.copy(
                    from_here, place
                )
    run = next(rest for word, rest in _instructions() if word == "RUN")
    assert run.endswith('/opt/notifier/bin/python -m pip install ".[server]"')
    install = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), ".[server]"], cwd=source, check=True, timeout=100)

    port = free_port()
    last = _last_stage()
    command = [sys.executable, "-m", *json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"]), "--port", str(port)]
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    check = [sys.executable, *(part.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for part in check[1:])]
    assert subprocess.run(check, capture_output=True).returncode == 1

    secrets = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "make_secrets.py"], check=True, capture_output=True, text=True
    ).stdout
    env = dict(line.split("=", 1) for line in secrets.splitlines())
    process = Process(command, cwd=tmp_path, env={**env, "PYTHONPATH": str(target)})
    try:
        process.wait_until(lambda: subprocess.run(check, capture_output=True).returncode == 0, "the service")
        assert httpx.get(f"http://127.0.0.1:{port}/client/notifier.js").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/demo").status_code == 404
    finally:
        process.stop()


# Compose and systemd


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return found


def test_compose_starts_redis_notifier_and_the_example(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"redis", "notifier", "web", "worker"}
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, name
            in_image = other == "notifier"
            assert in_image or "test" in services[other]["healthcheck"], other
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"], name
        if "build" in service:
            build = service["build"] if isinstance(service["build"], dict) else {"context": service["build"]}
            assert (REPOSITORY / build["context"] / build.get("dockerfile", "Dockerfile")).is_file()
            assert service["env_file"] == "deploy/secrets.env"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network"


def test_compose_sets_only_settings_that_exist_and_no_secret(compose: dict[str, Any]) -> None:
    env = compose["services"]["notifier"]["environment"]
    known = {f"NOTIFIER_{name.upper()}" for name in Settings.model_fields}
    assert set(env) <= known
    assert not {name for service in compose["services"].values() for name in service.get("environment", {})} & {
        "NOTIFIER_JWT_SECRET",
        "NOTIFIER_API_KEYS",
        "NOTIFIER_API_KEY",
        "DJANGO_SECRET_KEY",
    }


def test_compose_gives_the_service_time_to_drain(compose: dict[str, Any]) -> None:
    grace_s = int(compose["services"]["notifier"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings.model_fields["drain_s"].default + 5


@pytest.mark.programs
def test_the_redis_of_compose_keeps_everything(compose: dict[str, Any], tmp_path: Path) -> None:
    port = free_port()
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    process = Process([*compose["services"]["redis"]["command"], *place])
    client = redis.Redis(port=port)

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    try:
        process.wait_until(answers, "redis-server")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        client.close()
        process.stop()


def test_made_secrets_satisfy_the_service_and_are_kept_out_of_git(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, REPOSITORY / "tools" / "make_secrets.py"]
    first, second = (
        dict(line.split("=", 1) for line in text.splitlines())
        for text in (subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2))
    )
    assert not set(first.values()) & set(second.values())
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    settings.check_credentials()
    assert settings.api_keys == (first["NOTIFIER_API_KEY"],)
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/secrets.env"], cwd=REPOSITORY)
    assert ignored.returncode == 0


def test_the_systemd_unit_starts_what_the_command_understands() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's names have capitals
    unit.read(DEPLOY / "notifier.service")
    service = unit["Service"]
    program, command, *arguments = service["ExecStart"].split()
    assert os.path.basename(program) == "notifier"
    assert command == "serve"
    assert cli.serve.make_context("serve", arguments).params["port"] == 8000
    assert int(service["TimeoutStopSec"]) > Settings.model_fields["drain_s"].default + 5
    assert service["DynamicUser"] == "yes"


def test_api_keys_of_tests_are_not_in_any_shipped_file() -> None:
    for path in [*DEPLOY.iterdir(), REPOSITORY / "compose.yaml", REPOSITORY / "Dockerfile"]:
        if path.name != "secrets.env":
            assert API_KEY not in path.read_text()
