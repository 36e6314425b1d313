"""Weights: items count differently, and nested passes show their progress within one item."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from django_bridge import Progress, Task
from django_bridge.loop import tracker
from django_bridge.loop.weights import Weights
from django_bridge.testing import outbox


@pytest.fixture
def task(user: User) -> Task:
    return Task(from_user=user, task_name="Import")


def shown() -> list[tuple[int, int]]:
    return [(update["done"], update["total"]) for update in outbox.task_updates]


def test_an_item_counts_with_its_weight(task: Task) -> None:
    percents: list[int | None] = []
    names = ["load", "compute", "write"]
    list(Progress(names, weights=[10, 70, 20], task=task, callback=lambda p: percents.append(p.percent)))
    assert shown() == [(0, 100), (10, 100), (80, 100), (100, 100)]
    assert percents == [10, 80, 100]


def test_a_nested_pass_shows_its_progress_within_the_outer_item(task: Task) -> None:
    def step(items: int) -> None:
        for _ in Progress(range(items), parts=2, task=task):
            pass

    for items in Progress([4, 2], weights=[10, 90], task=task):
        step(items)
    assert shown() == [(0, 100), (5, 100), (10, 100), (10, 100), (55, 100), (100, 100), (100, 100)]


def test_a_single_weight_applies_to_every_item(task: Task) -> None:
    for _ in Progress(range(2), weights=100, task=task):
        for _ in Progress(range(4), parts=4, task=task):
            pass
    assert [done for done, _ in shown()] == [0, 25, 50, 75, 100, 100, 125, 150, 175, 200, 200]


def test_weights_nest(task: Task) -> None:
    for _ in Progress(range(2), weights=100, task=task):
        for _ in Progress(range(2), weights=[1, 9], task=task):
            list(Progress(range(2), parts=2, task=task))
    # Weights are whole numbers: within an item of weight 1 the innermost pass shows nothing before its end.
    assert [done for done, _ in shown()] == [0, 0, 10, 10, 50, 100, 100, 100, 100, 110, 110, 150, 200, 200, 200]


def test_a_second_nested_pass_within_one_item_never_lowers_the_progress(task: Task) -> None:
    for _ in Progress(range(2), weights=10, task=task):
        list(Progress(range(2), parts=2, task=task))
        list(Progress(range(2), parts=2, task=task))
    done = [done for done, _ in shown()]
    assert done == sorted(done)


def test_without_weights_only_the_outermost_pass_is_shown(task: Task) -> None:
    for _ in Progress(range(2), parts=2, task=task):
        list(Progress(range(2), weights=50, task=task))
    assert shown() == [(0, 2), (1, 2), (2, 2)]


def test_a_nested_pass_that_fails_shows_its_progress(task: Task) -> None:
    def work() -> None:
        for _ in Progress(range(2), weights=100, task=task):
            for i in Progress(range(10), parts=2, task=task):
                if i == 7:
                    raise LookupError

    with pytest.raises(LookupError):
        work()
    assert shown()[-1] == (70, 200)
    assert task.active_loop is None


def test_the_time_left_is_computed_by_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now)
    seen: list[Any] = []
    for _ in Progress(range(2), weights=[10, 30], parts=2, callback=lambda p: seen.append((p.rate, p.eta_s))):
        now += 5
    assert seen == [(0.2, 15.0), (0.2, 0.0)]


async def test_an_async_for_has_weights(task: Task) -> None:
    async def steps() -> Any:
        yield 1
        yield 2

    async for _ in Progress(steps(), total=2, weights=[10, 90], task=task):
        list(Progress([], task=None))
        async for _ in Progress(steps(), total=2, task=task):
            pass
    assert [done for done, _ in shown()] == [0, 5, 10, 10, 55, 100, 100]


@pytest.mark.parametrize("weights", [-1, [1, -1], [1.5], ["1"], [True]])
def test_an_invalid_weight_is_refused_at_once(weights: Any) -> None:
    with pytest.raises(ValueError, match="weight"):
        Progress(range(2), weights=weights)


def test_items_beyond_the_last_weight_count_nothing() -> None:
    assert [Weights([2, 3]).upto(n) for n in range(4)] == [0, 2, 5, 5]
    assert Weights([2, 3]).within(2, 0.5) == 5
