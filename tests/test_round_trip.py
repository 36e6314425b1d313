"""Thousands of generated events arrive unchanged at a parser of the standard and at a real browser; and the golden
streams of tests/wire mean the same to both.
"""

from __future__ import annotations

import base64
import json
import random
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from playwright.sync_api import sync_playwright

from notifier import json_text
from tests.eventstream import Parser, parse
from tests.support import CHROMIUM, FULL, REPOSITORY, Service, bearer, running, subscriber_token, wait_for

EVENTS = 10_000 if FULL else 2_000
SPECIAL = "\r\n\u2028\u2029\ufeff:\t\"\\<>&'\u202e\x1f\x7f\x85 id:data:event:retry:\n\n"
RANGES = [
    (0x01, 0x7F),
    (0xA0, 0x17F),
    (0x400, 0x4FF),
    (0x4E00, 0x4FFF),
    (0xE000, 0xE010),
    (0x1F300, 0x1F64F),
    (0xFFF0, 0xFFFD),
]


def some_text(seed: random.Random, longest: int) -> str:
    parts = []
    for _ in range(seed.randrange(longest)):
        if seed.random() < 0.3:
            parts.append(seed.choice(SPECIAL))
        else:
            first, last = seed.choice(RANGES)
            parts.append(chr(seed.randint(first, last)))
    return "".join(parts)


def some_value(seed: random.Random, depth: int = 0) -> object:
    kind = seed.randrange(8 if depth < 4 else 6)
    if kind < 2:
        return some_text(seed, 30)
    if kind == 2:
        return seed.randint(-(2**53) + 1, 2**53 - 1)
    if kind == 3:
        return seed.uniform(-1e6, 1e6)
    if kind in (4, 5):
        return seed.choice([None, True, False, 0, ""])
    if kind == 6:
        return [some_value(seed, depth + 1) for _ in range(seed.randrange(4))]
    return {some_text(seed, 10) + str(i): some_value(seed, depth + 1) for i in range(seed.randrange(4))}


@pytest.fixture(scope="module")
def values() -> list[object]:
    number = random.randrange(1 << 30)
    print(f"seed {number}")
    seed = random.Random(number)
    return [some_value(seed) for _ in range(EVENTS)]


@pytest.fixture(scope="module")
def roomy_service() -> object:
    env = {
        "NOTIFIER_PUBLISH_RATE": "0",
        "NOTIFIER_CORS_ORIGINS": "http://127.0.0.1:1",
        "NOTIFIER_MAX_BACKLOG_BYTES": "100000000",
    }
    with running(Service(env=env, dev=True)) as service:
        yield service


def publish(service: Service, user: str, values: list[object]) -> None:
    with service.client() as client:
        for start in range(0, len(values), 500):
            items = [
                {"kind": "event", "to": [f"user:{user}"], "type": "round.trip", "data": value}
                for value in values[start : start + 500]
            ]
            answer = client.post("/v1/batch", content=json.dumps(items).encode())
            assert all(result["status"] == 200 for result in answer.json()["results"]), answer.text[:500]


@pytest.mark.slow
def test_a_parser_of_the_standard_gets_what_was_published(roomy_service: Service, values: list[object]) -> None:
    got: list[object] = []
    ids: list[str] = []
    opened = threading.Event()

    def listen() -> None:
        parser = Parser()
        headers = bearer(subscriber_token("parser"))
        with httpx.stream("GET", f"{roomy_service.url}/v1/stream", headers=headers, timeout=60) as response:
            for part in response.iter_raw():
                for event in parser.feed(part):
                    opened.set()
                    if event.event == "round.trip":
                        got.append(json.loads(event.data))
                        ids.append(event.id)
                if len(got) == EVENTS:
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert opened.wait(60)
    publish(roomy_service, "parser", values)
    listener.join(60)
    assert got == values
    places = [int(cursor.rpartition("-")[2]) for cursor in ids]
    assert places == sorted(set(places))


@pytest.mark.programs
def test_a_browser_gets_what_was_published(roomy_service: Service, values: list[object]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{roomy_service.url}/healthz")  # a page of the service without a CSP that forbids eval
        page.evaluate(
            """(url) => {
                window.got = []
                window.source = new EventSource(url)
                source.addEventListener('hello', () => { window.open_ = true })
                source.addEventListener('round.trip', (event) => got.push(event.data))
            }""",
            f"{roomy_service.url}/v1/stream?token={subscriber_token('browser')}",
        )
        page.wait_for_function("window.open_")
        publish(roomy_service, "browser", values)
        wait_for(lambda: page.evaluate("got.length") >= EVENTS, timeout_s=60, what="every event in the browser")
        got = [json.loads(data) for data in page.evaluate("got")]
        page.evaluate("source.close()")
        browser.close()
    assert got == values


GOLDEN = {path.stem: json.loads(path.read_text()) for path in sorted((REPOSITORY / "tests" / "wire").glob("*.json"))}


def golden_bytes(vector: dict[str, Any]) -> bytes:
    if "text" in vector:
        return str(vector["text"]).encode()
    return base64.b64decode(vector["bytes_base64"])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_stream_means_what_it_says(name: str) -> None:
    vector, whole = GOLDEN[name], golden_bytes(GOLDEN[name])
    for size in (len(whole), 1, 7):
        parser = Parser()
        got = [event for start in range(0, len(whole), size) for event in parser.feed(whole[start : start + size])]
        got += list(parser.feed(b"", final=True))
        assert [asdict(event) for event in got] == vector["events"]
        assert parser.retry_ms == vector.get("retry")


class Golden(BaseHTTPRequestHandler):
    """Serves each golden stream once, then 204, which stops the EventSource."""

    served: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        again = name in self.served or name not in GOLDEN
        self.served.add(name)
        self.send_response(204 if again else 200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        if not again:
            # A short `retry:` at the end, so that the browser reconnects at once and gets the 204.
            self.wfile.write(golden_bytes(GOLDEN[name]) + b"\n\nretry: 1\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.programs
def test_golden_streams_mean_the_same_to_a_browser() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Golden)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = [name for name in GOLDEN if "cut-off" not in name]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        got = page.evaluate(
            """([base, streams]) => Promise.all(streams.map(([name, types]) => new Promise((done) => {
                const received = []
                const source = new EventSource(base + name)
                const note = (event) => received.push({event: event.type, data: event.data, id: event.lastEventId})
                for (const type of types) source.addEventListener(type, note)
                source.onerror = () => { if (source.readyState === EventSource.CLOSED) done([name, received]) }
            })))""",
            [
                f"http://127.0.0.1:{server.server_address[1]}/",
                [[name, sorted({"message", *(event["event"] for event in GOLDEN[name]["events"])})] for name in names],
            ],
        )
        browser.close()
    server.shutdown()
    server.server_close()
    assert dict(got) == {name: GOLDEN[name]["events"] for name in names}


def test_the_encoder_writes_one_line_of_data_whatever_is_in_it() -> None:
    for text in (SPECIAL, "".join(chr(i) for i in range(1, 0x3000))):
        encoded = json_text.to_json({"text": text})
        events = parse(f"event: x\ndata: {encoded}\n\n".encode())
        assert [json.loads(event.data)["text"] for event in events] == [text]
