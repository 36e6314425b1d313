"""The load of the fault cases itself: a later reset hides no loss from it."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from tests.faults import load as loads
from tests.faults.clients import StreamEvent
from tests.faults.load import Load


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """A load of one user. Nothing is published by itself."""
    monkeypatch.setattr(loads, "DELIVERED_S", 0.1)
    nowhere = SimpleNamespace(port=0)
    return Load(nowhere, "redis://127.0.0.1:1", "n:", 1, random.Random(0))  # type: ignore[arg-type]


def answer(load: Load, message: str, began_at: float) -> None:
    load.users[0].began_at[message] = began_at


def receive(load: Load, kind: str, at: float, message: str = "") -> None:
    load.listeners[0].of(kind).append(StreamEvent("1-1", kind, {"id": message}, at))


async def test_a_message_that_is_missing_before_a_fault_is_lost_whatever_reset_follows(load: Load) -> None:
    answer(load, "a", 1.0)
    with pytest.raises(AssertionError, match="lost messages that began"):
        await load.is_delivered()
    receive(load, "reset", 2.0)
    assert load.lost(load.listeners[0]) == [], "the reset of the next fault would excuse it"


async def test_a_message_that_arrived_or_was_excused_by_a_reset_is_not_lost(load: Load) -> None:
    answer(load, "a", 1.0)
    receive(load, "reset", 2.0)
    answer(load, "b", 3.0)
    receive(load, "message", 3.1, "b")
    await load.is_delivered()
