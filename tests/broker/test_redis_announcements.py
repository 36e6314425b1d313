"""The order of announcements, as the topics of a process see it."""

from __future__ import annotations

from notifier.broker.redis.announcements import Topics
from tests.broker.support import Recorder

FRAME = b"event: x\ndata: {}\n\n"


def announced(topics: Topics, channel: str, epoch: str, seq: int, prev: int) -> None:
    topics.receive(channel.encode(), f"{epoch} {seq} {prev} -\nid: {epoch}-{seq}\n".encode() + FRAME)


def subscribed(recorder: Recorder, *channels: str) -> Topics:
    topics = Topics(recorder)
    topics.add(channels)
    topics.begin()
    for channel in channels:
        topics.acknowledge(channel.encode())
    return topics


async def test_an_event_that_does_not_follow_the_last_of_its_topic_is_read_from_the_log() -> None:
    recorder = Recorder()
    topics = subscribed(recorder, "a")
    topics.note_lasts(b"e", {"a": 4})
    announced(topics, "a", "e", 5, 4)
    announced(topics, "a", "e", 9, 7)
    assert [seq for _, seq, _ in recorder.events] == [5]
    assert recorder.resyncs == [(["a"], 5)]


async def test_a_new_order_on_another_topic_hides_no_hole_of_a_topic_that_is_in_it_already() -> None:
    recorder = Recorder()
    topics = subscribed(recorder, "a", "b")
    topics.note_lasts(b"old", {"b": 3})
    topics.note_lasts(b"new", {"a": 4})
    announced(topics, "b", "new", 8, 7)
    assert recorder.resyncs == [(None, None)]
    topics.note_lasts(b"new", {"a": 6, "b": 8})  # the log has 6, whose announcement was lost
    announced(topics, "a", "new", 9, 6)
    announced(topics, "b", "new", 10, 8)
    assert recorder.resyncs == [(None, None), (["a"], 4)]
    assert [seq for _, seq, _ in recorder.events] == [10]
