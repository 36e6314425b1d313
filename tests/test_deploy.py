"""`Dockerfile`, `compose.yaml`, the systemd unit and the secrets: their promises, tried with real programs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from notifier import cli
from notifier.check import check_broker
from notifier.settings import Settings, load
from tests.support import API_KEY, REPOSITORY, Process, free_port

DEPLOY = REPOSITORY / "deploy"


# The image


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def _last_stage() -> dict[str, str]:
    stage: dict[str, str] = {}
    for word, rest in _instructions():
        if word == "FROM":
            stage = {}
        stage[word] = rest
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("path", ["Dockerfile", "examples/django_project/Dockerfile"])
def test_hadolint_reports_nothing(path: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", path], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_in_two_stages_from_a_slim_base() -> None:
    stages = [rest for word, rest in _instructions() if word == "FROM"]
    assert stages == ["${BASE} AS build", "${BASE}"]
    base = next(rest for word, rest in _instructions() if word == "ARG")
    assert re.fullmatch(r"BASE=python:[\d.]+-slim-\w+(@sha256:[0-9a-f]{64})?", base), base


def test_the_image_runs_as_an_ordinary_user_and_gets_its_signals() -> None:
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
def test_the_images_commands_make_a_service_that_passes_its_health_check(tmp_path: Path) -> None:
    """COPY, RUN, CMD and HEALTHCHECK as written, in a folder instead of an image, with this Python's packages."""
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
    run = next(rest for word, rest in _instructions() if word == "RUN" and "pip" in rest)
    assert run.endswith('python -m pip --python /opt/notifier/bin/python install ".[server]"')
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
    env["NOTIFIER_DATA_DIR"] = str(tmp_path / "data")
    (tmp_path / "data").mkdir()
    process = Process(command, cwd=tmp_path, env={**env, "PYTHONPATH": str(target)})
    try:
        process.wait_until(lambda: subprocess.run(check, capture_output=True).returncode == 0, "the service")
        assert httpx.get(f"http://127.0.0.1:{port}/client/notifier.js").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/demo").status_code == 404
        assert (tmp_path / "data" / "notifier.db").is_file()
    finally:
        process.stop()


# Compose and systemd


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return services


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
        judged = {
            result.name: result.verdict for result in check_broker(load(broker_url=f"redis://127.0.0.1:{port}/0"))
        }
        assert {"eviction", "persistence"} <= judged.keys()
        assert set(judged.values()) == {"ok"}
    finally:
        client.close()
        process.stop()


def test_generated_secrets_satisfy_the_service_and_git_ignores_them(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_systemd_unit_starts_a_valid_command() -> None:
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
    assert service["Environment"] == f"NOTIFIER_DATA_DIR=/var/lib/{service['StateDirectory']}"


def test_api_keys_of_tests_are_not_in_any_shipped_file() -> None:
    for path in [*DEPLOY.rglob("*"), REPOSITORY / "compose.yaml", REPOSITORY / "Dockerfile"]:
        if path.is_file() and path.name != "secrets.env":
            assert API_KEY not in path.read_text()
