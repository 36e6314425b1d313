"""The removal of what has expired, a few objects at each write."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from notifier.broker.embedded import sweep
from notifier.broker.embedded.sweep import PASSES_A_LIFE, Sweep


def test_a_call_goes_on_to_the_end_of_a_pass_and_the_next_begins_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(sweep, "time", clock)
    passes: list[str] = []

    def three_steps() -> Iterator[None]:
        passes.append("begun")
        for _ in range(3):
            yield

    swept = Sweep(three_steps, three_steps, shortest_s=PASSES_A_LIFE * 2.0)
    swept.after(4)
    assert len(passes) == 2  # in the second kind of objects
    swept.after(1000)
    clock.now = 1.9
    swept.after(1000)
    assert len(passes) == 2  # the pass has ended, and the pause has not
    clock.now = 2.0
    swept.after(1000)
    assert len(passes) == 4
