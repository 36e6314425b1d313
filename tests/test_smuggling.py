"""Requests with two meanings, sent to the service and to a real nginx in front of it. The bytes of one connection are
never answered as more requests than nginx sees in them; and what nginx refuses is refused too, or read alike."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.nginx import Nginx
from tests.raw_http import exchange
from tests.support import API_KEY, Service, running

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: service\r\n\r\n"
LAST = b"GET /nowhere HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nHost: service\r\nAuthorization: Bearer " + API_KEY.encode() + b"\r\n"
EVENT = b'{"to": ["all"], "type": "note"}'
LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


def get(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /healthz HTTP/1.1", b"Host: service", *lines, b"", b""])


def in_chunks(*chunks: bytes) -> bytes:
    return POST + CHUNKED + b"\r\n" + b"".join(chunks)


AS_CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)

CORPUS: dict[str, bytes] = {
    # Length
    "a length": POST + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT,
    "two equal lengths": POST + LENGTH + LENGTH + b"\r\n" + SMUGGLED,
    "two lengths, the first 0": POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    "two lengths, the second 0": POST + LENGTH + b"Content-Length: 0\r\n\r\n" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a list of equal lengths": POST + b"Content-Length: 5, 5\r\n\r\n" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length in hexadecimal": POST + b"Content-Length: 0x10\r\n\r\n" + SMUGGLED,
    "a length with a fraction": POST + b"Content-Length: 1.0\r\n\r\n" + SMUGGLED,
    "an empty length": POST + b"Content-Length:\r\n\r\n" + SMUGGLED,
    "a length with a space inside": POST + b"Content-Length: 3 9\r\n\r\n" + SMUGGLED,
    "a length over 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + SMUGGLED,
    "a length after a tab": POST + b"Content-Length:\t%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a length with leading zeros": POST + b"Content-Length: 00%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a GET with a body": get(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED,
    "a stream with a body": b"GET /v1/stream HTTP/1.1\r\nHost: service\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    # Length and encoding
    "length, then chunked": POST + LENGTH + CHUNKED + b"\r\n" + END + SMUGGLED,
    "chunked, then length": POST + CHUNKED + LENGTH + b"\r\n" + END + SMUGGLED,
    "length 0 and chunked": POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n" + END + SMUGGLED,
    "length and an unknown encoding": POST + b"Content-Length: 0\r\nTransfer-Encoding: x\r\n\r\n" + SMUGGLED,
    # Encoding
    "chunked": in_chunks(AS_CHUNK, END),
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n" + END + SMUGGLED,
    "chunked in a list twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END + SMUGGLED,
    "chunked, then identity": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + END + SMUGGLED,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
    "gzip, then chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + AS_CHUNK + END,
    "chunked, then gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + AS_CHUNK + END + SMUGGLED,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END + SMUGGLED,
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END + SMUGGLED,
    "chunked in capitals": POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + AS_CHUNK + END,
    "chunked after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END + SMUGGLED,
    "chunked after a folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END + SMUGGLED,
    "an encoding in HTTP/1.0": POST.replace(b"/1.1", b"/1.0") + CHUNKED + b"\r\n" + AS_CHUNK + END + SMUGGLED,
    # Chunks
    "a chunk's extension": in_chunks(b"%x;a=b\r\n%s\r\n" % (len(EVENT), EVENT), END),
    "a chunk's extension with a line feed": in_chunks(b"%x;a\nb\r\n%s\r\n" % (len(EVENT), EVENT), END, SMUGGLED),
    "a chunk's size with 0x": in_chunks(b"0x5\r\nhello\r\n", END, SMUGGLED),
    "a chunk's size with a sign": in_chunks(b"+5\r\nhello\r\n", END, SMUGGLED),
    "a chunk's size with a space": in_chunks(b"5 \r\nhello\r\n", END, SMUGGLED),
    "a chunk's size over 64 bits": in_chunks(b"10000000000000005\r\nhello\r\n", END, SMUGGLED),
    "a chunk's size with leading zeros": in_chunks(b"000%x\r\n%s\r\n" % (len(EVENT), EVENT), END),
    "an empty size": in_chunks(b"\r\n", END, SMUGGLED),
    "a negative size": in_chunks(b"-1\r\n", END, SMUGGLED),
    "a chunk's size with a bare line feed": in_chunks(b"5\nhello\r\n", END, SMUGGLED),
    "a chunk with a bare line feed": in_chunks(b"5\r\nhello\n", END, SMUGGLED),
    "a chunk longer than its size": in_chunks(b"4\r\nhello\r\n", END, SMUGGLED),
    "a chunk shorter than its size": in_chunks(b"6\r\nhello\r\n", END, SMUGGLED),
    "an end with bare line feeds": in_chunks(AS_CHUNK, b"0\n\n", SMUGGLED),
    "a trailer": in_chunks(AS_CHUNK, b"0\r\nX: y\r\n\r\n"),
    "a trailer that is a length": in_chunks(AS_CHUNK, b"0\r\nContent-Length: 5\r\n\r\n"),
    "a trailer that is a credential": in_chunks(AS_CHUNK, b"0\r\nAuthorization: Bearer x\r\n\r\n"),
    # Lines
    "bare line feeds": SMUGGLED.replace(b"\r\n", b"\n"),
    "a bare line feed between headers": get(b"A: b\nContent-Length: %d" % len(SMUGGLED)) + SMUGGLED,
    "a bare line feed at the end": get(b"A: b")[:-2] + b"\n",
    "a bare carriage return": get(b"A: b\rContent-Length: %d" % len(SMUGGLED)) + SMUGGLED,
    "two carriage returns": get(b"A: b\r"),
    "a folded header": get(b"A: b", b" c"),
    "a folded header by a tab": get(b"A: b", b"\tContent-Length: %d" % len(SMUGGLED)) + SMUGGLED,
    "a fold after the request line": b"GET /healthz HTTP/1.1\r\n Host: service\r\n\r\n",
    "a space before a colon": POST + b"Content-Length : %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a tab before a colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + END + SMUGGLED,
    "a header without a colon": get(b"Content-Length"),
    "a header without a name": get(b": 5"),
    "NUL in a value": get(b"A: b\0c"),
    "NUL in a name": get(b"A\0: b"),
    "NUL in a length": POST + b"Content-Length: 0\x00\r\n\r\n" + SMUGGLED,
    "DEL in a name": get(b"A\x7f: b"),
    "bytes over 127 in a value": get(b"A: \xe9\xff"),
    "an underscore for a hyphen": POST + b"Content_Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "blank lines before the request": b"\r\n\r\n" + SMUGGLED,
    # Request line
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: service\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: service\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "a version in small letters": b"GET /healthz http/1.1\r\nHost: service\r\n\r\n",
    "a space in the address": b"GET /healthz a HTTP/1.1\r\nHost: service\r\n\r\n",
    "a whole URL": b"GET http://service/healthz HTTP/1.1\r\nHost: service\r\n\r\n",
    "no Host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: service\r\nHost: other\r\n\r\n",
    "an unknown method": b"SMUGGLE /healthz HTTP/1.1\r\nHost: service\r\n\r\n",
    "CONNECT": b"CONNECT service:80 HTTP/1.1\r\nHost: service\r\n\r\n" + SMUGGLED,
    # Upgrade
    "an offer with a body": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    "an offer and chunks": POST + b"Connection: Upgrade\r\nUpgrade: x\r\n" + CHUNKED + b"\r\n" + AS_CHUNK + END,
    "an offer without Connection": POST + b"Upgrade: h2c\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    "an offer on a GET": get(b"Connection: Upgrade", b"Upgrade: websocket") + SMUGGLED,
    "an offer in HTTP/1.0": get(b"Connection: Upgrade", b"Upgrade: h2c").replace(b"/1.1", b"/1.0") + SMUGGLED,
    "an offer with a space before the colon": POST + b"Connection: Upgrade\r\nUpgrade : h2c\r\n" + LENGTH + b"\r\n",
    # Connection
    "a request after close": get(b"Connection: close") + SMUGGLED,
    "keep-alive in HTTP/1.0": get(b"Connection: keep-alive").replace(b"/1.1", b"/1.0") + SMUGGLED,
    "requests in a row": SMUGGLED * 5,
}


@pytest.fixture(scope="module")
def behind_nginx() -> Iterator[Service]:
    with running(Service()) as service:
        yield service


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, behind_nginx: Service) -> Iterator[Nginx]:
    with running(Nginx(tmp_path_factory.mktemp("nginx"), behind_nginx)) as proxy:
        yield proxy


REFUSALS = {400, 405, 414, 431, 501, 505}
READ_ALIKE = {"a length after a tab"}
"""nginx refuses this, and RFC 9110 (5.5) allows it: the bytes have one meaning."""


@pytest.mark.parametrize("name", CORPUS)
def test_no_more_requests_than_nginx_sees(nginx: Nginx, behind_nginx: Service, name: str) -> None:
    data = CORPUS[name] + LAST
    direct, proxied = exchange(behind_nginx.port, [data]), exchange(nginx.port, [data])
    if name in READ_ALIKE:
        assert (direct.statuses, proxied.statuses) == ([400, 404], [400])
        assert direct[0].json()["title"] == "Malformed body"
        return
    assert len(direct) <= len(proxied), (direct, proxied)
    for ours, nginxs in zip(direct.statuses, proxied.statuses, strict=False):
        assert ours == nginxs or {ours, nginxs} <= REFUSALS or (ours == 400 and direct.ended), (direct, proxied)
    if nginxs_refusal := [status for status in proxied.statuses if status in REFUSALS]:
        assert REFUSALS.intersection(direct.statuses), (nginxs_refusal, direct)


def test_http_0_9_is_refused(behind_nginx: Service) -> None:
    """nginx answers it with a body alone, which no parser of HTTP/1.1 counts."""
    assert exchange(behind_nginx.port, [b"GET /healthz\r\n\r\n" + SMUGGLED]).statuses == [400]


def test_nginx_reuses_its_connections_without_mixing_up_responses(nginx: Nginx) -> None:
    for name, data in CORPUS.items():
        exchange(nginx.port, [data], until=1, silence_s=0.1)
        answer = httpx.get(f"{nginx.url}/v1/inbox?after={len(name)}")
        assert answer.status_code == 401, name


@pytest.mark.parametrize("name", CORPUS)
def test_the_size_of_packets_changes_no_meaning(behind_nginx: Service, name: str) -> None:
    data = CORPUS[name] + LAST
    whole = exchange(behind_nginx.port, [data]).statuses
    for size in (1, 13):
        assert exchange(behind_nginx.port, [data[i : i + size] for i in range(0, len(data), size)]).statuses == whole


@pytest.mark.parametrize("name", CORPUS)
def test_an_offer_to_upgrade_changes_no_meaning(behind_nginx: Service, name: str) -> None:
    data = CORPUS[name] + LAST
    offered = data.replace(b"Host: service\r\n", b"Host: service\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", 1)
    plain, upgrading = (exchange(behind_nginx.port, [packet]).statuses for packet in (data, offered))
    assert upgrading == plain
