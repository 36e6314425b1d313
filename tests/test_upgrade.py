"""An offer to upgrade is ignored (RFC 9110, 7.8), and the body belongs to its request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import httpx
import pytest

from tests.raw_http import chunked, exchange, request
from tests.support import API_KEY, Service, bearer, subscriber_token

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"),
    "websocket": ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13"),
    "close": ("Connection: close, Upgrade", "Upgrade: h2c"),
    "several": ("connection: upgrade", "upgrade: TLS/1.0", "UPGRADE: h2c"),
}  # fmt: skip
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: service\r\n\r\n"
MESSAGE = json.dumps({"to": ["user:upgrading"], "subject": "Hello"}).encode()

Way = Callable[[bytes, bytes], Iterable[bytes]]
WAYS: dict[str, Way] = {
    "in one packet": lambda head, body: [head + body],
    "in two": lambda head, body: [head, body],
    "byte by byte": lambda head, body: [bytes([byte]) for byte in head + body],
}


def post(offer: str, body: bytes, *, in_chunks: bool = False) -> tuple[bytes, bytes]:
    framing = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(body)}"
    head = request("POST", "/v1/messages", *OFFERS[offer], "Content-Type: application/json", framing, key=API_KEY)
    return head, chunked(body) if in_chunks else body


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offer", OFFERS)
def test_a_publish_with_an_offer_to_upgrade_is_a_publish(
    service: Service, offer: str, way: str, in_chunks: bool
) -> None:
    packets = WAYS[way](*post(offer, MESSAGE, in_chunks=in_chunks))
    answers = exchange(service.port, packets, until=1)
    assert answers.statuses == [200], answers
    assert answers[0].json()["id"]


@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("way", WAYS)
def test_a_body_after_an_offer_to_upgrade_is_no_request(service: Service, way: str, in_chunks: bool) -> None:
    head, body = post("h2c", SMUGGLED, in_chunks=in_chunks)
    last = request("GET", "/nowhere", "Connection: close")
    answers = exchange(service.port, WAYS[way](head, body + last))
    assert answers.statuses == [400, 404]
    assert "is not JSON" in answers[0].json()["detail"]


def test_offers_on_one_connection_are_answered_in_order(service: Service) -> None:
    offers = [offer for offer in OFFERS if offer != "close"]
    posts = [b"".join(post(offer, MESSAGE, in_chunks=in_chunks)) for offer in offers for in_chunks in (True, False)]
    get = request("GET", "/healthz", *OFFERS["h2c"])
    packet = b"".join([get, *posts, get, request("GET", "/nowhere", "Connection: close")])
    for packets in ([packet], [packet[:333], packet[333:]], [bytes([byte]) for byte in packet]):
        answers = exchange(service.port, packets)
        assert answers.statuses == [200, *[200] * len(posts), 200, 404]


@pytest.mark.parametrize("offer", OFFERS)
def test_a_stream_with_an_offer_to_upgrade_is_a_stream(service: Service, offer: str) -> None:
    headers = dict(line.split(": ", 1) for line in OFFERS[offer])
    headers |= bearer(subscriber_token("upgrading"))
    with httpx.stream("GET", f"{service.url}/v1/stream", headers=headers, timeout=5) as response:
        assert response.status_code == 200
        assert any(line == "event: hello" for line in response.iter_lines())


def test_an_offer_changes_nothing_about_what_is_refused(service: Service) -> None:
    for wrong in ("Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 6"):
        head = request("POST", "/v1/messages", *OFFERS["h2c"], wrong, key=API_KEY)
        answers = exchange(service.port, [head + SMUGGLED])
        assert answers.statuses == [400]
        assert answers.ended


def test_connect_is_refused(service: Service) -> None:
    answers = exchange(service.port, [b"CONNECT service:80 HTTP/1.1\r\nHost: service\r\n\r\n" + SMUGGLED])
    assert answers.statuses == [400]
    assert answers.ended
    assert answers[0].headers["content-type"] == "application/problem+json"
