"""The trace of a publish, as text: what travels beside the time of its acceptance.

    00-<trace id>-<span id>-01[ <tracestate>]      W3C Trace Context, its two headers with a space between

Must not know: OpenTelemetry, how the text travels.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final, Self

MAX_STATE_CHARS: Final = 512
"""Of a tracestate; a longer one is left out. W3C Trace Context asks for at least this many."""
_CONTEXT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?: [ -~]{1,512})?")


class TracedTime(int):
    """The time at which a traced publish was accepted, in microseconds of Unix time, with its trace.

    It is a number, so that it goes wherever the plain time does: publishes without a trace carry and check nothing.
    """

    context: str
    received_ns: int
    """When this process received the event, in nanoseconds of Unix time."""

    def __new__(cls, accepted_us: int, context: str) -> Self:
        time_us = super().__new__(cls, accepted_us)
        time_us.context = context
        time_us.received_ns = time.time_ns()
        return time_us


FirstWrite = Callable[[TracedTime, int], None]
"""Called when a traced event was first written, with the number of the topic's streams in this process. For an event of
several topics, or for many streams, it is called more than once."""


def context_text(traceparent: str, tracestate: str = "") -> str:
    """Both headers as one text."""
    return f"{traceparent} {tracestate}" if 0 < len(tracestate) <= MAX_STATE_CHARS else traceparent


def is_context(text: str) -> bool:
    """True for the form of `context_text`. Announcements may be written by other programs."""
    return _CONTEXT.fullmatch(text) is not None


def headers_of(context: str) -> dict[str, str]:
    """The headers that a text stands for; none if it is in another form."""
    if not is_context(context):
        return {}
    traceparent, _, tracestate = context.partition(" ")
    return {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}
