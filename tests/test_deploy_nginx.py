"""`deploy/nginx.conf`, run by a real nginx in front of the service."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.nginx import CONFIGURATION, PROGRAM, Nginx
from tests.stream_reader import StreamReader
from tests.support import Service, running, wait_for

MiB = 1024 * 1024


@pytest.fixture(scope="module")
def behind_nginx() -> Iterator[Service]:
    env = {"NOTIFIER_MAX_STREAMS_PER_ADDRESS": "2", "NOTIFIER_HEARTBEAT_S": "4"}
    with running(Service(env=env)) as service:
        yield service


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, behind_nginx: Service) -> Iterator[Nginx]:
    with running(Nginx(tmp_path_factory.mktemp("nginx"), behind_nginx)) as proxy:
        yield proxy


@pytest.mark.programs
def test_nginx_accepts_the_shipped_configuration(tmp_path: Path) -> None:
    command = [PROGRAM, "-t", "-p", str(tmp_path), "-c", str(CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_events_pass_nginx_one_by_one(nginx: Nginx, behind_nginx: Service) -> None:
    reader = StreamReader(nginx.url, "ann")
    try:
        assert reader.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.response.headers["cache-control"] == "no-store, no-transform"
        reader.next("hello")
        for number in range(3):
            body = {"to": ["user:ann"], "subject": f"Number {number}"}
            with behind_nginx.client() as publisher:
                assert publisher.post(f"{nginx.url}/v1/messages", json=body).status_code == 200
            sent = time.monotonic()
            assert reader.next("message")[1]["subject"] == f"Number {number}"
            assert time.monotonic() - sent < 3, "the event came with the next ping: nginx buffers"
    finally:
        reader.close()


def test_nginx_sends_the_clients_address_to_the_service_and_drops_the_clients_own_claim(nginx: Nginx) -> None:
    readers = [StreamReader(nginx.url, "bob", address="127.0.0.2") for _ in range(2)]
    try:
        for reader in readers:
            reader.next("hello")
        readers.append(other := StreamReader(nginx.url, "bob", address="127.0.0.3"))
        assert other.next("hello", "bye")[0] == "hello"
        readers.append(
            claims := StreamReader(nginx.url, "bob", address="127.0.0.2", **{"X-Forwarded-For": "192.0.2.1"})
        )
        assert claims.next("hello", "bye")[0] == "bye"
    finally:
        for reader in readers:
            reader.close()


def test_nginx_bounds_headers_and_bodies(nginx: Nginx) -> None:
    large = httpx.get(f"{nginx.url}/v1/inbox", headers={"X-Large": "x" * 100_000})
    assert large.status_code in (400, 431)
    assert httpx.post(f"{nginx.url}/v1/batch", content=b" " * (MiB + 1)).status_code == 413


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/readyz", "/demo"])
def test_nginx_does_not_forward_operation(nginx: Nginx, path: str) -> None:
    assert httpx.get(nginx.url + path).status_code == 404


def test_nginx_logs_no_token(nginx: Nginx) -> None:
    assert httpx.get(f"{nginx.url}/v1/stream?token=a-token-in-the-address").status_code == 401
    log = nginx.folder / "access.log"
    wait_for(lambda: '"GET /v1/stream" 401' in log.read_text(), what="the line in the log, written after the answer")
    assert "a-token-in-the-address" not in log.read_text()
