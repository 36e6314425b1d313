"""`deploy/nginx.conf`, run by a real nginx in front of the service."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from notifier.api.http import MAX_WAIT_S
from tests.nginx import CONFIGURATION, PROGRAM, Nginx
from tests.stream_reader import StreamReader
from tests.support import Service, bearer, running, subscriber_token, wait_for

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


BUFFERS = (
    "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on; "
    "gzip on; gzip_proxied any; gzip_min_length 1; gzip_types text/event-stream;"
)
"""What else an nginx may be told. This one forwards a buffered event at once, unless it compresses the stream too."""


@pytest.fixture(scope="module")
def buffering_nginx(tmp_path_factory: pytest.TempPathFactory, behind_nginx: Service) -> Iterator[Nginx]:
    with running(Nginx(tmp_path_factory.mktemp("nginx"), behind_nginx, around=BUFFERS)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def careless_nginx(tmp_path_factory: pytest.TempPathFactory, behind_nginx: Service) -> Iterator[Nginx]:
    without = ("proxy_buffering off;", "gzip off;")
    with running(Nginx(tmp_path_factory.mktemp("nginx"), behind_nginx, around=BUFFERS, without=without)) as proxy:
        yield proxy


@pytest.mark.programs
def test_events_pass_nginx_one_by_one_where_other_locations_are_buffered_and_compressed(
    buffering_nginx: Nginx, behind_nginx: Service
) -> None:
    reader = StreamReader(buffering_nginx.url, "ann", **{"Accept-Encoding": "gzip"})
    try:
        assert reader.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.response.headers["cache-control"] == "no-store, no-transform"
        assert "content-encoding" not in reader.response.headers
        reader.next("hello")
        for number in range(3):
            body = {"to": ["user:ann"], "subject": f"Number {number}"}
            with behind_nginx.client() as publisher:
                assert publisher.post(f"{buffering_nginx.url}/v1/messages", json=body).status_code == 200
            name, data = reader.next("message", "ping")  # a ping first: the event would have come with it
            assert (name, data.get("subject")) == ("message", f"Number {number}")
    finally:
        reader.close()


@pytest.mark.programs
def test_without_its_lines_for_streams_nginx_holds_events_back(careless_nginx: Nginx) -> None:
    """So the test above tells whether they are there. A ping every 4 s is held back like the first event."""
    headers = {**bearer(subscriber_token("eve")), "Accept-Encoding": "gzip"}
    with (
        httpx.Client(headers=headers, timeout=httpx.Timeout(20, read=2), trust_env=False) as client,
        pytest.raises(httpx.ReadTimeout),
        client.stream("GET", f"{careless_nginx.url}/v1/stream") as response,
    ):
        for _ in response.iter_raw():
            pass


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


@pytest.mark.slow
def test_nginx_waits_for_a_poll_as_long_as_the_service_and_its_client_do(nginx: Nginx) -> None:
    """The client's polls wait 25 s where nothing happens; the service allows 55."""
    with httpx.Client(base_url=nginx.url, headers=bearer(subscriber_token("pia")), timeout=60) as client:
        cursor = client.get("/v1/poll?wait_s=0").json()["cursor"]
        answer = client.get(f"/v1/poll?after={cursor}&wait_s=25")
    assert answer.status_code == 200
    assert answer.json()["events"] == []
    (timeout_s,) = re.findall(r"location /v1/ .*?proxy_read_timeout (\d+)s;", CONFIGURATION.read_text(), re.DOTALL)
    assert int(timeout_s) > MAX_WAIT_S


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
