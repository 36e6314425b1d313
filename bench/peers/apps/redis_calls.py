"""The commands that publish events straight to Redis, by the version of `notifier` that is imported.

    python redis_calls.py < EVENTS

EVENTS is a JSON list of [channel, text]. The output is one record for the publish script and one for each event: a
little-endian uint32 length, then that many bytes.
"""

from __future__ import annotations

import json
import struct
import sys

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import publish_calls, script
from notifier.event import custom

try:
    from notifier.broker.values import History
except ImportError:  # a version from before 2026-11-29, measured by `python -m bench --compare`
    from notifier.broker import History  # type: ignore[attr-defined, no-redef]  # it was there


def command(channel: str, text: str) -> bytes:
    """The call of the script that a Django process with the transport `redis` makes."""
    event = custom(to=[channel], event_type="bench", data=text)
    (call,) = publish_calls(event, Keys(), history=History(256, 256, 7 * 86_400))
    words = ["EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args]
    return resp([word if isinstance(word, bytes) else str(word).encode() for word in words])


def resp(words: list[bytes]) -> bytes:
    """A Redis command as bytes."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


if __name__ == "__main__":
    records = [script("publish").source.encode(), *(command(*event) for event in json.load(sys.stdin))]
    sys.stdout.buffer.write(b"".join(struct.pack("<I", len(record)) + record for record in records))
