"""The output of a task: text in numbered pieces, and the frames that announce them.

    {"id": "import-7", "n": 18, "text": "..."}              piece 18
    {"id": "import-7", "n": 18, "from": 15, "text": "..."}  pieces 15 to 18, joined for a reader that is behind

A client that misses a piece sees it by the numbers, and reads the stored text. Pure. Must not know: brokers, streams.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from notifier import json_text, rules
from notifier.errors import InvalidInput, too_large
from notifier.event import frame

MAX_PIECE_BYTES: Final = 16 * 1024
"""Most bytes of one piece."""
KEPT_BYTES: Final = 256 * 1024
"""Bytes of output that are stored for each task, unless a setting says otherwise."""
KEY_PREFIX: Final = "output:"
"""Begins the state key of a task's announcements: frames that wait are joined, and do not replace each other. Task ids
have no colon."""
MAX_JOINED_CHARS: Final = 64 * 1024
"""A joined frame that would have more has the newest piece only; its reader sees the hole and reads the stored text."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an appended piece."""

    n: int
    """Its number, from 1."""
    chars: int
    """Characters (code points) of all pieces so far."""
    cancel_requested: bool = False

    def public(self) -> dict[str, Any]:
        """The fields of the response."""
        return {"n": self.n, "chars": self.chars, "cancel_requested": self.cancel_requested}


@dataclass(frozen=True, slots=True)
class Output:
    """Stored pieces as one text."""

    n: int
    """The number of the newest piece; 0 without any."""
    text: str
    truncated: bool
    """True if pieces that were asked for are not stored any more: the oldest go first."""

    def public(self) -> dict[str, Any]:
        """The fields of the response."""
        return {"n": self.n, "text": self.text, "truncated": self.truncated}


def piece(value: object, field: str = "text") -> str:
    """The text of one piece. Raises `InvalidInput`, and `PayloadTooLarge` over `MAX_PIECE_BYTES`."""
    text = rules.text(value, field)
    if not text:
        raise InvalidInput("must not be empty", field=field)
    if (size := len(text.encode())) > MAX_PIECE_BYTES:
        raise too_large(MAX_PIECE_BYTES, size, field=field)
    return text


def state_key(task_id: str) -> str:
    """The state key of the announcements of one task's output."""
    return KEY_PREFIX + task_id


def frame_parts(task_id: str, text: str) -> tuple[str, str]:
    """The announcement of a piece, before and after its number."""
    whole = frame(
        "task.output", f'{{"id":{json_text.text_to_json(task_id)},"n":,"text":{json_text.text_to_json(text)}}}'
    )
    head, separator, tail = whole.partition('"n":')
    return head + separator, tail


def piece_frame(task_id: str, n: int, text: str) -> str:
    """The announcement of piece `n`."""
    head, tail = frame_parts(task_id, text)
    return f"{head}{n}{tail}"


@dataclass(frozen=True, slots=True)
class Pieces:
    """Consecutive pieces of one task's output, on their way to a reader that is behind. `joined` adds to them in the
    time of what is added; the frame is written once."""

    id: str
    first: int
    """The number of the first."""
    n: int
    """The number of the last."""
    chars: int
    texts: list[str]
    """Their texts, and perhaps those of later pieces: `joined` extends the list in place."""
    count: int
    """Texts that belong to these pieces."""

    @classmethod
    def of(cls, announcement: bytes) -> Pieces:
        """The pieces of an announcement. Raises ValueError if it is in another form."""
        try:
            data = json.loads(announcement.partition(b"\ndata: ")[2])
            task_id, n, text = str(data["id"]), data["n"], data["text"]
            first = data.get("from", n)
            f"{task_id}{text}".encode()  # refuses half a pair of surrogates, which no frame can have
        except (LookupError, TypeError, AttributeError, RecursionError) as exc:
            raise ValueError(f"not an announcement of output: {exc}") from exc
        if not isinstance(text, str) or type(n) is not int or type(first) is not int:
            raise ValueError("not an announcement of output")
        return cls(task_id, first, n, len(text), [text], 1)

    def frame(self) -> bytes:
        """Their announcement."""
        fields: dict[str, Any] = {"id": self.id, "n": self.n}
        if self.first != self.n:
            fields["from"] = self.first
        fields["text"] = "".join(self.texts[: self.count])
        return frame("task.output", json_text.to_json(fields)).encode()


def joined(older: Pieces, newer: Pieces) -> Pieces:
    """The pieces of both. Where pieces between them are missing, or the text gets too long, the newer ones: the number
    shows the hole."""
    if newer.n <= older.n:
        return older
    # A foreign piece may be empty: it counts as one character, so that the number of pieces is bounded too.
    chars = older.chars + max(1, newer.chars)
    if newer.first != older.n + 1 or chars > MAX_JOINED_CHARS:
        return newer
    # The list is shared with the older pieces. It is copied only if it was extended already, for another reader.
    texts = older.texts if len(older.texts) == older.count else older.texts[: older.count]
    texts += newer.texts[: newer.count]
    return Pieces(older.id, older.first, newer.n, chars, texts, older.count + newer.count)
