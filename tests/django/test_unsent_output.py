"""Output that waits while the service is away: the newest is kept, and the log says once that older is dropped."""

from __future__ import annotations

import pytest
from django.test import override_settings

from django_bridge.task.unsent_output import STEP_CHARS, UnsentOutput
from notifier.output import KEPT_BYTES, MAX_PIECE_BYTES


@pytest.fixture(autouse=True)
def _own_publisher() -> object:
    """The log of failures is that of the publisher, which is a new one under other settings."""
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "TIMEOUT_S": 7.5}):
        yield


def text_of(output: UnsentOutput) -> str:
    text = ""
    while (piece := output.next_piece()) is not None:
        text += piece[1]
        output.sent()
    return text


@pytest.mark.parametrize("size", [1, 1000, MAX_PIECE_BYTES, KEPT_BYTES, 3 * KEPT_BYTES])
def test_the_newest_output_is_kept(size: int) -> None:
    output, written = UnsentOutput(), "*" * (KEPT_BYTES - STEP_CHARS)
    output.add(written)
    for number in range(max(3, 5 * STEP_CHARS // size)):
        text = chr(ord("a") + number % 26) * size
        output.add(text)
        written += text
        assert output.chars <= KEPT_BYTES
    kept = text_of(output)
    assert written.endswith(kept)
    assert KEPT_BYTES - len(kept) <= max(size, STEP_CHARS)


def test_a_long_text_is_copied_once_for_many_writes() -> None:
    output = UnsentOutput()
    output.add("a" * KEPT_BYTES)
    output.add("b")
    rest = output._texts[0]
    for _ in range(STEP_CHARS - 1):
        output.add("b")
    assert output._texts[0] is rest
    assert text_of(output) == rest + "b" * STEP_CHARS


def test_dropped_output_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    outputs = [UnsentOutput(), UnsentOutput()]
    for _ in range(50):
        for output in outputs:
            output.add("a" * KEPT_BYTES)
    assert [record.getMessage()[:28] for record in caplog.records] == ["output of a task is dropped:"]
