"""One open stream: order, conflation behind a slow reader, farewells; and streams without the transport."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from notifier import json_text, output
from notifier.event import Cursor
from notifier.frames import EncodedFrame, after_waiting, farewell
from notifier.output import KEY_PREFIX, Pieces
from notifier.queued import QueuedStream, QueuedTextStream
from notifier.stream import MAX_REPEAT_KEYS, MAX_STATES, Stream
from notifier.transport import LAST_CHUNK, TextTransportStream, TransportStream
from tests.faults.clients import Listener, listening, until
from tests.support import JWT_SECRET, REPOSITORY, Process, Service, bearer, free_port, running, subscriber_token

FIELDS: dict[str, Any] = {
    "user": "ann",
    "address": "127.0.0.1",
    "channels": ("user:ann",),
    "topics": ("user:ann",),
    "cursor": Cursor("e", 0),
    "ends_at": time.monotonic() + 60,
    "ends_why": "rotate",
}


class Wall(asyncio.WriteTransport):
    """A transport whose reader accepts everything, or nothing (`waiting` bytes of backlog)."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.on_drained: Callable[[], None] | None = None
        self._waiting = 0
        self.state = "open"

    @property
    def waiting(self) -> int:
        return self._waiting

    @waiting.setter
    def waiting(self, size: int) -> None:
        self._waiting = size
        if not size and (on_drained := self.on_drained) is not None:
            self.on_drained = None
            on_drained()

    def get_protocol(self) -> Any:
        return self  # has `on_drained`

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def stream(wall: Wall) -> Stream:
    return TransportStream(wall, b"", **FIELDS)


def test_a_frame_is_one_http_chunk(stream: Stream, wall: Wall) -> None:
    stream.offer(EncodedFrame(b"event: ping\ndata: {}\n\n"))
    stream.flush()
    assert wall.written == [b"16\r\nevent: ping\ndata: {}\n\n\r\n"]


def test_frames_that_were_offered_together_leave_in_one_write(stream: Stream, wall: Wall) -> None:
    for text in (b"one", b"two", b"three"):
        stream.offer(EncodedFrame(text))
    stream.flush()
    assert wall.written == [b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n"]
    stream.flush()
    assert len(wall.written) == 1


def test_behind_a_slow_reader_only_the_newest_state_of_each_task_waits(stream: Stream, wall: Wall) -> None:
    wall.waiting = 10
    for done in range(5):
        stream.offer_state("task-1", EncodedFrame(b"first %d" % done))
        stream.offer_state("task-2", EncodedFrame(b"second %d" % done))
    stream.flush()
    assert wall.written == []
    wall.waiting = 0
    stream.release_states()
    stream.flush()
    assert b"".join(wall.written) == EncodedFrame(b"first 4").chunk + EncodedFrame(b"second 4").chunk


def test_behind_a_slow_reader_the_output_of_a_task_waits_as_joined_pieces(stream: Stream, wall: Wall) -> None:
    wall.waiting = 10
    for n in range(1, 5):
        stream.offer_state(output.state_key("t"), EncodedFrame(output.piece_frame("t", n, f"{n}.").encode()))
    wall.waiting = 0
    stream.release_states()
    stream.flush()
    assert b'{"id":"t","n":4,"from":1,"text":"1.2.3.4."}' in b"".join(wall.written)


def test_joining_what_waits_costs_as_much_as_the_new_piece(
    stream: Stream, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[int] = []
    loads, to_json = json.loads, json_text.to_json

    def counted_loads(data: bytes) -> Any:
        handled.append(len(data))
        return loads(data)

    def counted_to_json(value: object) -> str:
        handled.append(len(text := to_json(value)))
        return text

    monkeypatch.setattr(json, "loads", counted_loads)
    monkeypatch.setattr(json_text, "to_json", counted_to_json)
    wall.waiting = 10
    pieces = [EncodedFrame(output.piece_frame("t", n, f"{n:0100}").encode()) for n in range(1, 501)]
    for piece in pieces:
        stream.offer_state(output.state_key("t"), piece)
    wall.waiting = 0
    stream.release_states()
    stream.flush()
    written = b"".join(wall.written)
    text = "".join(f"{n:0100}" for n in range(1, 501))
    assert f'{{"id":"t","n":500,"from":1,"text":"{text}"}}'.encode() in written
    assert sum(handled) <= sum(len(piece.plain) for piece in pieces) + len(written)


def test_readers_that_share_waiting_pieces_go_on_apart(wall: Wall) -> None:
    shared = EncodedFrame(output.piece_frame("t", 1, "1.").encode())
    for n in (2, 3):
        shared = after_waiting("output:t", shared, EncodedFrame(output.piece_frame("t", n, f"{n}.").encode()))
    following = [EncodedFrame(output.piece_frame("t", 4, text).encode()) for text in ("a", "b")]
    texts = [Pieces.of(after_waiting("output:t", shared, piece).plain).texts for piece in following]
    assert texts == [["1.2.3.a"], ["1.2.3.b"]]
    assert b'"n":3,"from":1,"text":"1.2.3."' in shared.chunk


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        "[]",
        "null",
        "{",
        '{"id":"t","n":"2","text":"b"}',
        '{"id":"t","n":2,"text":2}',
        '{"id":"t","n":2,"text":["b"]}',
        r'{"id":"t","n":2,"text":"\ud800"}',
        "[" * 50_000,
    ],
)
def test_an_announcement_of_output_in_another_form_replaces_what_waits(data: str) -> None:
    """Another program may write to the broker."""
    good = EncodedFrame(output.piece_frame("t", 1, "a").encode())
    foreign = EncodedFrame(f"event: task.output\ndata: {data}\n\n".encode())
    assert after_waiting("output:t", good, foreign) is foreign
    assert after_waiting("output:t", foreign, good) is good


def test_events_are_never_conflated(stream: Stream, wall: Wall) -> None:
    wall.waiting = 10
    for number in range(3):
        stream.offer(EncodedFrame(b"%d" % number))
    stream.flush()
    assert b"".join(wall.written) == b"1\r\n0\r\n1\r\n1\r\n1\r\n2\r\n"


def test_states_that_wait_are_bounded(stream: Stream, wall: Wall) -> None:
    wall.waiting = 10
    for number in range(MAX_STATES + 50):
        stream.offer_state(f"task-{number}", EncodedFrame(b"x"))
    wall.waiting = 0
    stream.release_states()
    stream.flush()
    assert b"".join(wall.written).count(b"x") == MAX_STATES


def test_a_key_is_a_repeat_the_second_time_and_keys_are_bounded(stream: Stream) -> None:
    assert not stream.is_repeat("a")
    assert stream.is_repeat("a")
    for number in range(MAX_REPEAT_KEYS):
        stream.is_repeat(f"k{number}")
    assert not stream.is_repeat("a")


def test_the_end_writes_the_farewell_and_closes_the_chunked_body(stream: Stream, wall: Wall) -> None:
    bye = farewell("rotate", 1234)
    stream.end(bye)
    assert b"".join(wall.written) == bye.chunk + LAST_CHUNK
    assert bye.plain == b'retry: 1234\nevent: bye\ndata: {"reason":"rotate","retry_ms":1234}\n\n'
    assert wall.state == "closed"
    stream.end(bye)
    assert len(wall.written) == 2


def test_a_reader_that_accepts_nothing_is_cut_off_without_a_farewell(stream: Stream, wall: Wall) -> None:
    wall.waiting = 1 << 20
    stream.end(farewell("slow", 1))
    assert (wall.written, wall.state) == ([], "aborted")


def test_nothing_is_written_to_a_closed_connection(stream: Stream, wall: Wall) -> None:
    wall.close()
    stream.offer(EncodedFrame(b"late"))
    stream.flush()
    assert wall.written == []


async def test_a_queued_stream_ends_after_its_farewell() -> None:
    stream = QueuedStream(**FIELDS)
    stream.offer(EncodedFrame(b"one"))
    stream.flush()
    stream.end(EncodedFrame(b"bye"))
    stream.end(EncodedFrame(b"bye again"))
    assert [frame async for frame in stream.frames()] == [b"one", b"bye"]


async def test_a_queued_stream_of_texts_has_strings_as_lines() -> None:
    stream = QueuedTextStream(**FIELDS, form="text")
    stream.offer(EncodedFrame(b'event: part\ndata: "one\\ntwo"\n\n'))
    stream.offer(EncodedFrame(b'event: part\ndata: "broken\n\n'))
    stream.end(EncodedFrame(b"bye"))
    frames = [frame async for frame in stream.frames()]
    assert frames == [b"event: part\ndata: one\ndata: two\n\n", b'event: part\ndata: "broken\n\n', b"bye"]


def test_states_that_waited_and_were_joined_bring_no_markup_to_a_stream_of_texts(wall: Wall) -> None:
    stream = TextTransportStream(wall, b"", **FIELDS, form="text")
    wall.waiting = 1
    for n in (1, 2):
        data = f'{{"id":"t","n":{n},"text":"<b>{n}"}}'
        stream.offer_state(f"{KEY_PREFIX}t", EncodedFrame(f"event: task.output\ndata: {data}\n\n".encode()))
    wall.waiting = 0
    stream.release_states()
    stream.flush()
    (chunk,) = wall.written
    assert b'"text":"\\u003cb>1\\u003cb>2"' in chunk


@pytest.mark.slow
def test_a_server_that_does_not_offer_its_transport_serves_streams_too() -> None:
    port = free_port()
    env = {
        "NOTIFIER_JWT_SECRET": JWT_SECRET,
        "NOTIFIER_API_KEYS": "key-0123456789abcdef",
        "NOTIFIER_REDIS_URL": "",
        "NOTIFIER_HEARTBEAT_S": "0.5",
        "NOTIFIER_STREAM_LIFE_S": "4",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "notifier.app:create",
        "--port",
        str(port),
        "--http",
        "h11",
    ]
    server = Process(command, env=env, cwd=REPOSITORY)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=10) as client:
            server.wait_until(lambda: _answers(client), "uvicorn")
            with connect_sse(client, "GET", "/v1/stream", headers=bearer(subscriber_token("ann"))) as source:
                assert source.response.headers["x-accel-buffering"] == "no"
                received = source.iter_sse()
                assert next(received).event == "hello"
                body = {"to": ["user:ann"], "subject": "hi"}
                answer = client.post("/v1/messages", json=body, headers=bearer("key-0123456789abcdef"))
                kinds = [(event.event, event.id) for event in received]
            assert ("message", answer.json()["cursor"]) in kinds
            assert "ping" in [kind for kind, _ in kinds]
            assert kinds[-1][0] == "bye"
    finally:
        server.stop()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
async def test_a_message_sent_in_parts_is_delivered_once() -> None:
    with running(Service()) as service:
        listener = Listener(service.port, "ann", ("staff",))
        async with listening(listener):
            with service.client() as client:
                for to in (["group:staff", "user:x"], ["user:y", "user:ann"], ["user:bob", "all"]):
                    assert client.post("/v1/messages", json={"id": "m-1", "to": to, "subject": "parts"}).is_success
                assert client.post("/v1/messages", json={"to": ["user:ann"], "subject": "end"}).is_success
            await until(lambda: listener.messages and listener.messages[-1].data["subject"] == "end")
    assert [event.data["subject"] for event in listener.messages] == ["parts", "end"]
