"""The output of a task: pieces, and announcements that are joined for a reader that is behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifier import output
from notifier.errors import InvalidInput, PayloadTooLarge
from notifier.event import is_safe_frame


def announced(n: int, text: str) -> output.Pieces:
    return output.Pieces.of(output.piece_frame("import-7", n, text).encode())


def data_of(pieces: output.Pieces) -> Any:
    frame = pieces.frame()
    assert is_safe_frame(frame)
    return json.loads(frame.partition(b"\ndata: ")[2])


def test_an_announcement_is_a_safe_frame_with_the_text_as_it_is() -> None:
    text = '"n":\r\n\x1b[1m\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}'
    assert data_of(announced(3, text)) == {"id": "import-7", "n": 3, "text": text}


def test_pieces_that_follow_each_other_are_joined() -> None:
    both = output.joined(announced(3, "a"), announced(4, "b"))
    assert data_of(both) == {"id": "import-7", "n": 4, "from": 3, "text": "ab"}
    third = output.joined(both, announced(5, "c"))
    assert data_of(third) == {"id": "import-7", "n": 5, "from": 3, "text": "abc"}
    assert data_of(output.joined(announced(2, "z"), both))["from"] == 2


def test_a_repeat_changes_nothing_and_a_hole_stays_visible() -> None:
    both = output.joined(announced(3, "a"), announced(4, "b"))
    assert output.joined(both, announced(4, "b")) == both
    assert data_of(output.joined(both, announced(6, "d"))) == {"id": "import-7", "n": 6, "text": "d"}


def test_what_is_joined_is_bounded_and_the_cut_is_a_hole() -> None:
    pieces = announced(1, "x" * 16_000)
    for n in range(2, 40):
        pieces = output.joined(pieces, announced(n, "x" * 16_000))
        data = data_of(pieces)
        assert len(data["text"]) <= output.MAX_JOINED_CHARS
        assert data["n"] == n
        assert len(data["text"]) == 16_000 * (n - data.get("from", n) + 1)


@pytest.mark.parametrize("value", [None, 7, "", "\0", "\ud800"])
def test_a_piece_is_text(value: object) -> None:
    with pytest.raises(InvalidInput, match="text"):
        output.piece(value)


def test_a_piece_has_at_most_16_kib() -> None:
    assert output.piece(" ") == " "
    assert output.piece("é" * 8192)
    with pytest.raises(PayloadTooLarge, match="16386"):
        output.piece("é" * 8193)
