"""The ids of open streams, by which calls and publishes name them.

Must not know: HTTP, brokers, what a stream hears.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable

from notifier.exclusion import Exclusion
from notifier.stream import Stream

StreamsByTopic = dict[str, dict[Stream, None]]


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
