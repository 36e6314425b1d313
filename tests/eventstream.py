"""The event stream parser of the WHATWG standard, step by step, to check frames against.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dispatched:
    """An event as the browser dispatches it to a page."""

    event: str
    data: str
    id: str


@dataclass
class Parser:
    """Feed it bytes as they arrive; it yields the events that a browser would dispatch."""

    last_event_id: str = ""
    retry_ms: int | None = None
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    _text: str = ""
    _begun: bool = False
    _data: list[str] = field(default_factory=list)
    _type: str = ""
    _id: str = ""

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Dispatched]:
        self._text += self._decoder.decode(data, final)
        if not self._begun and self._text:
            self._begun = True
            self._text = self._text.removeprefix("\ufeff")
        while (end := re.search(r"\r\n|\n|\r", self._text)) is not None:
            if end.group() == "\r" and end.end() == len(self._text) and not final:
                return  # a line feed may follow
            line, self._text = self._text[: end.start()], self._text[end.end() :]
            yield from self._line(line)

    def _line(self, line: str) -> Iterator[Dispatched]:
        if not line:
            yield from self._dispatch()
            return
        if line.startswith(":"):
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and re.fullmatch(r"[0-9]+", value):
            self.retry_ms = int(value)

    def _dispatch(self) -> Iterator[Dispatched]:
        self.last_event_id = self._id
        data, kind = self._data, self._type
        self._data, self._type = [], ""
        if data:
            yield Dispatched(kind or "message", "\n".join(data), self.last_event_id)


def parse(stream: bytes) -> list[Dispatched]:
    """All events of a whole stream."""
    return list(Parser().feed(stream, final=True))
