"""The open streams by topic; their ids, by which calls and publishes name them.

Must not know: HTTP, brokers, what a stream hears.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import os
import struct
from collections.abc import Iterable

from notifier.exclusion import Exclusion
from notifier.stream import Stream

StreamsByTopic = dict[str, tuple[Stream] | dict[Stream, None]]
"""In the order in which they were added. Most topics have one stream: a dict for it would be four times its tuple."""


def add(streams_by_topic: StreamsByTopic, topic: str, stream: Stream) -> None:
    """Add a stream to a topic."""
    streams = streams_by_topic.get(topic)
    if streams is None:
        streams_by_topic[topic] = (stream,)
    elif isinstance(streams, dict):
        streams[stream] = None
    elif streams[0] is not stream:
        streams_by_topic[topic] = {streams[0]: None, stream: None}


def remove(streams_by_topic: StreamsByTopic, stream: Stream, topics: Iterable[str]) -> list[str]:
    """Remove a stream from topics. Returns those that have no stream any more."""
    emptied = []
    for topic in topics:
        streams = streams_by_topic.get(topic)
        if streams is None:
            continue
        if isinstance(streams, dict):
            streams.pop(stream, None)
        if not streams or streams == (stream,):
            del streams_by_topic[topic]
            emptied.append(topic)
    return emptied


def crowded(streams_by_topic: StreamsByTopic, most: int) -> list[tuple[str, int]]:
    """The channels with the most streams, and these numbers. It looks at every topic."""
    largest = heapq.nlargest(most, streams_by_topic.items(), key=lambda item: len(item[1]))
    firsts = [(topic, next(iter(streams)), len(streams)) for topic, streams in largest]
    return [(stream.channels[stream.topics.index(topic)], n) for topic, stream, n in firsts]


def listeners(streams_by_topic: StreamsByTopic, topic: str) -> int:
    """The number of streams on a topic."""
    return len(streams_by_topic.get(topic, ()))


class ConnectionIds:
    """Unguessable ids of the open streams of this process. Computed, so that a stream that needs none stores none."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def of(self, stream: Stream) -> str:
        place = struct.pack("=dQ", stream.attached_at, id(stream))
        return hashlib.blake2b(place, key=self._key, digest_size=16).hexdigest()

    def excludes(self, stream: Stream, excluded: Exclusion) -> bool:
        """True if a publish leaves this stream out."""
        if stream.user in excluded.users:
            return True
        return excluded.connection != "" and self.of(stream) == excluded.connection

    def find(self, connection: str, streams: Iterable[Stream]) -> Stream | None:
        """The stream with this id among those of its user."""
        wanted = connection.encode(errors="replace")
        return next((each for each in streams if hmac.compare_digest(self.of(each).encode(), wanted)), None)
