"""`notifier serve`: its refusals, `--dev`, and its end at a signal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from uvicorn.config import STARTUP_FAILURE

from notifier.broker.redis.keys import Keys
from tests.commands import CREDENTIALS, USER, call, printed, refused, run, running
from tests.support import API_KEY, JWT_SECRET, RedisServer, Service, bearer, free_port, subscriber_token

pytestmark = pytest.mark.slow

# Refusals


def test_serve_refuses_to_start_without_a_secret() -> None:
    reason = refused("serve", NOTIFIER_API_KEYS=API_KEY)
    assert "NOTIFIER_JWT_SECRET" in reason
    assert "--dev" in reason


def test_serve_refuses_to_start_without_a_key() -> None:
    reason = refused("serve", NOTIFIER_JWT_SECRET=JWT_SECRET)
    assert "NOTIFIER_API_KEYS" in reason
    assert "--dev" in reason


@pytest.mark.parametrize("url", ["", "memory:", "sqlite:///var/lib/notifier/notifier.db"])
def test_serve_refuses_several_workers_without_redis_with_the_reason(url: str) -> None:
    reason = refused("serve", "--workers", "2", **CREDENTIALS, NOTIFIER_BROKER_URL=url)
    assert "NOTIFIER_BROKER_URL" in reason
    assert "one process" in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFIER_REDIS_URL", "localhost"),
        ("NOTIFIER_REDIS_URL", "redis://localhost:port"),
        ("NOTIFIER_REDIS_URL", "localhost:6379"),
        ("NOTIFIER_REDIS_URL", "http://localhost"),
        ("NOTIFIER_BROKER_URL", "memory:x"),
        ("NOTIFIER_BROKER_URL", "sqlite:/var/lib/notifier.db"),
        ("NOTIFIER_DATA_DIR", "relative"),
        ("NOTIFIER_JWT_SECRET", "short"),
        ("NOTIFIER_JWT_PUBLIC_KEY", "nonsense"),
        ("NOTIFIER_API_KEYS", "short"),
        ("NOTIFIER_CORS_ORIGINS", "*"),
        ("NOTIFIER_HISTORY_SIZE", "many"),
        ("NOTIFIER_SHARDS", "0"),
    ],
)
def test_serve_refuses_a_bad_setting_by_its_name_and_in_one_line(name: str, value: str) -> None:
    assert name in refused("serve", **{**CREDENTIALS, name: value})


def test_several_bad_settings_are_named_together() -> None:
    reason = refused("serve", **{**CREDENTIALS, "NOTIFIER_SHARDS": "0", "NOTIFIER_DRAIN_S": "-1"})
    assert "NOTIFIER_SHARDS" in reason
    assert "NOTIFIER_DRAIN_S" in reason


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_refuses_a_port_in_use(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        settings = {**CREDENTIALS, "NOTIFIER_REDIS_URL": "redis://127.0.0.1:1"}
        assert port in refused("serve", "--port", port, "--workers", workers, **settings)


@pytest.mark.programs
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_ends_with_one_line_and_an_exit_code_where_redis_has_other_shards(
    redis_server: RedisServer, workers: str
) -> None:
    prefix = f"cli{workers}:"
    with redis_server.client() as client:
        client.set(Keys(prefix).layout, "3 plain")
    settings = {**CREDENTIALS, "NOTIFIER_REDIS_URL": redis_server.url, "NOTIFIER_PREFIX": prefix}
    done = run("serve", "--port", str(free_port()), "--workers", workers, "--log-level", "error", **settings)
    assert done.returncode == STARTUP_FAILURE
    assert "Traceback" not in done.stderr
    assert "notifier at " not in done.stderr  # printed by the levels info and debug
    reasons = [line for line in done.stderr.splitlines() if "Redis has the shards '3 plain'" in line]
    assert 1 <= len(reasons) <= int(workers)  # one of each worker that came so far


@pytest.mark.programs
def test_a_worker_that_is_silent_for_some_seconds_is_not_replaced(redis_service: Service) -> None:
    """uvicorn's supervisor would give it 5 s, which the start of a worker takes on a busy machine."""
    pid = redis_service.process.child.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    before = children.read_text().split()
    worker = int(before[-1])
    os.kill(worker, signal.SIGSTOP)
    time.sleep(7)
    os.kill(worker, signal.SIGCONT)
    with redis_service.client() as client:
        assert client.get("/readyz").status_code == 200
    assert children.read_text().split() == before


@pytest.mark.parametrize("option", [["--port", "0"], ["--port", "70000"], ["--workers", "0"], ["--log-level", "loud"]])
def test_serve_refuses_an_option_out_of_its_bounds(option: list[str]) -> None:
    done = call("serve", *option, **CREDENTIALS)
    assert done.returncode == 2
    assert option[0] in done.stderr


# Running


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/readyz", timeout=1).status_code == 200
    return False


def test_dev_generates_and_prints_a_secret_and_a_key_that_work() -> None:
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    empty = dict.fromkeys(("NOTIFIER_JWT_SECRET", "NOTIFIER_API_KEYS", "NOTIFIER_REDIS_URL"), "")
    with running("serve", "--dev", "--port", port, **empty) as process:
        process.wait_until(lambda: answers(url), "the service")
        banner = process.output()
        assert "do not use this in production" in banner
        assert f"{url}/demo" in banner
        assert f"{url}/docs" in banner
        values = dict(re.findall(r"(NOTIFIER_\w+)=(\S+)", banner))
        sent = json.loads(
            printed("send", f"user:{USER}", "--subject", "Hi", "--url", url, "--key", values["NOTIFIER_API_KEY"])
        )
        token = printed("token", USER, NOTIFIER_JWT_SECRET=values["NOTIFIER_JWT_SECRET"]).strip()
        inbox = httpx.get(f"{url}/v1/inbox", headers=bearer(token)).json()
        assert [message["id"] for message in inbox["messages"]] == [sent["id"]]
        assert httpx.get(f"{url}/demo").status_code == 200


def test_without_dev_there_is_no_demo_and_nothing_is_printed_of_secrets_even_at_debug() -> None:
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    token = subscriber_token(USER)
    with running("serve", "--port", port, "--log-level", "debug", **CREDENTIALS, NOTIFIER_REDIS_URL="") as process:
        process.wait_until(lambda: answers(url), "the service")
        for path in ("/demo", "/demo/login"):
            assert httpx.get(f"{url}{path}").status_code == 404
        with httpx.stream("GET", f"{url}/v1/stream", params={"token": token}) as response:
            assert response.status_code == 200
            next(response.iter_raw())
        httpx.get(f"{url}/v1/stream", params={"token": token + "x"})
        httpx.post(f"{url}/v1/messages", headers=bearer(API_KEY), json={"to": ["all"], "subject": "Hi"})
        process.signal(signal.SIGTERM)
        process.child.wait(15)
        log = process.output()
    assert log
    for secret in (token, token.rpartition(".")[2], API_KEY, JWT_SECRET):
        assert secret not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("level", ["info", pytest.param("warning", marks=pytest.mark.full)])
def test_serve_prints_its_address_stops_at_a_signal_and_frees_the_port(level: str) -> None:
    port = free_port()
    options = ["--port", str(port), "--log-level", level]
    with running("serve", *options, **CREDENTIALS, NOTIFIER_REDIS_URL="") as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}"), "the service")
        assert (f"notifier at http://127.0.0.1:{port}\n" in process.output()) is (level == "info")
        process.signal(signal.SIGTERM)
        process.child.wait(15)
        with socket.create_server(("127.0.0.1", port)):
            pass
