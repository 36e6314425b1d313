"""`Progress`: a loop that reports after each part of its pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_bridge import Progress
from django_bridge.loop import tracker
from tests.django.reports import Reports, collect


@given(items=st.integers(0, 400), parts=st.integers(1, 60))
def test_a_full_pass_makes_exactly_its_parts_evenly_spread_and_the_last_at_100_percent(items: int, parts: int) -> None:
    seen: Reports = []
    assert list(Progress(range(items), parts=parts, callback=collect(seen))) == list(range(items))
    calls = min(items, parts)
    assert len(seen) == calls
    assert [done for done, _, _ in seen] == [-(-items * k // calls) for k in range(1, calls + 1)]
    assert [percent for _, _, percent in seen[-1:]] == [100][:calls]
    assert all(percent is not None and percent < 100 for _, _, percent in seen[:-1])


def test_the_default_is_ten_parts() -> None:
    seen: Reports = []
    list(Progress(range(1000), callback=collect(seen)))
    assert [percent for _, _, percent in seen] == list(range(10, 101, 10))


def test_a_report_follows_the_loop_body_of_the_parts_last_item() -> None:
    order: list[object] = []
    for i in Progress(range(4), parts=2, callback=lambda: order.append("report")):
        order.append(f"item {i}")  # noqa: PERF401  # the loop is under test
    assert order == ["item 0", "item 1", "report", "item 2", "item 3", "report"]


@pytest.mark.parametrize("kind", [list, tuple, set, dict.fromkeys, lambda items: range(len(list(items)))])
def test_an_iterable_can_be_anything_with_a_length(kind: Any) -> None:
    seen: Reports = []
    assert sorted(Progress(kind(range(7)), parts=7, callback=collect(seen))) == list(range(7))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5, 6, 7]


def test_an_iterable_can_be_an_object_with_len() -> None:
    class Pages:
        def __len__(self) -> int:
            return 6

        def __iter__(self) -> Iterator[str]:
            return iter("abcdef")

    seen: Reports = []
    assert "".join(Progress(Pages(), parts=3, callback=collect(seen))) == "abcdef"
    assert seen == [(2, 6, 33), (4, 6, 66), (6, 6, 100)]


def test_an_iterable_without_a_length_needs_a_total() -> None:
    seen: Reports = []
    assert list(Progress((n * n for n in range(4)), total=4, parts=2, callback=collect(seen))) == [0, 1, 4, 9]
    assert seen == [(2, 4, 50), (4, 4, 100)]


def test_an_iterable_of_unknown_length_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"generator has no len.*total="):
        Progress(n for n in range(3))


@pytest.mark.parametrize(("name", "value"), [("parts", 0), ("parts", True), ("parts", 2.5), ("total", -1)])
def test_numbers_out_of_range_are_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        Progress([1], **{name: value})


def test_a_callback_may_take_the_progress_or_nothing() -> None:
    seen: list[object] = []
    list(Progress([1], callback=lambda: seen.append("nothing")))
    list(Progress([1], callback=lambda progress: seen.append(progress.percent)))
    list(Progress([1], callback=lambda progress=None: seen.append(progress.percent)))
    list(Progress([1], callback=lambda *arguments: seen.append(len(arguments))))
    list(Progress([1], callback=seen.append))
    assert seen[:4] == ["nothing", 100, 100, 1]
    assert isinstance(seen[4], Progress)


def test_a_callback_with_two_required_arguments_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        Progress([1], callback=lambda a, b: None)
    with pytest.raises(TypeError, match="must be callable"):
        Progress([1], callback="print")  # type: ignore[arg-type]  # the invalid type is under test


def test_an_exception_of_the_callback_reaches_the_loop() -> None:
    def broken(progress: Progress[int]) -> None:
        raise LookupError("no")

    progress = Progress(range(10), parts=5, callback=broken)
    with pytest.raises(LookupError):
        list(progress)
    assert progress.done == 2


def test_after_a_break_done_is_exact_and_the_callback_is_not_called() -> None:
    seen: Reports = []
    progress = Progress(list(range(100)), callback=collect(seen))
    for i in progress:
        if i == 55:
            break
    assert (progress.done, progress.total, progress.percent) == (55, 100, 55)
    assert [done for done, _, _ in seen] == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("stop_at", [0, 9, 10, 11, 99])
@pytest.mark.parametrize("source", [range(100), list(range(100)), dict.fromkeys(range(100))])
def test_after_an_exception_in_the_body_done_is_exact(source: Any, stop_at: int) -> None:
    progress = Progress(source)

    def walk() -> None:
        for i in progress:
            if i == stop_at:
                raise LookupError

    with pytest.raises(LookupError):
        walk()
    assert progress.done == stop_at
    assert progress.percent == stop_at


def test_after_an_exception_of_the_iterable_every_item_before_it_is_done() -> None:
    def source() -> Iterator[int]:
        yield from range(7)
        raise ConnectionError

    progress = Progress(source(), total=10, parts=2)
    with pytest.raises(ConnectionError):
        list(progress)
    assert (progress.done, progress.total, progress.percent) == (7, 10, 70)


def test_inside_the_body_the_current_item_is_not_done() -> None:
    progress = Progress(range(3))
    assert (progress.done, progress.percent) == (0, None)
    assert [(progress.done, progress.percent) for _ in progress] == [(0, 0), (1, 33), (2, 66)]
    assert (progress.done, progress.percent) == (3, 100)


@pytest.mark.parametrize(
    ("holds", "seen_done", "last"),
    [(4, [2, 4], (4, 4, 100)), (5, [2, 4], (5, 5, 100)), (1, [], (1, 1, 100)), (13, [2, 4, 6, 8], (13, 13, 100))],
)
def test_an_iterable_with_fewer_or_more_items_corrects_its_total_at_the_end(
    holds: int, seen_done: list[int], last: tuple[int, int, int]
) -> None:
    seen: Reports = []
    assert list(Progress(iter(range(holds)), total=10, parts=5, callback=collect(seen))) == list(range(holds))
    assert [done for done, _, _ in seen[:-1]] == seen_done
    assert seen[-1] == last
    assert all(percent is not None and percent < 100 for _, _, percent in seen[:-1])


def test_an_iterable_with_more_items_than_its_total_shows_100_percent_only_at_its_end() -> None:
    progress = Progress(iter(range(13)), total=10)
    seen = [progress.percent for _ in progress]
    assert seen == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 90, 91, 92]
    assert (progress.done, progress.total, progress.percent) == (13, 13, 100)


def test_a_list_changed_inside_the_loop_is_counted_by_the_items_handed_out() -> None:
    growing = [1, 2, 3]
    progress = Progress(growing, parts=3)
    for i in progress:
        if i == 3:
            growing += [4]
    assert (progress.done, progress.total) == (4, 4)
    shrinking = [1, 2, 3, 4]
    progress = Progress(shrinking, parts=4)
    for _ in progress:
        shrinking.pop()
    assert (progress.done, progress.total, progress.percent) == (2, 2, 100)


def test_nested_passes_each_keep_their_own_state() -> None:
    outer_seen: Reports = []
    inner_seen: Reports = []
    for _ in Progress(range(3), parts=3, callback=collect(outer_seen)):
        for _ in Progress(range(4), parts=2, callback=collect(inner_seen)):
            pass
    assert outer_seen == [(1, 3, 33), (2, 3, 66), (3, 3, 100)]
    assert inner_seen == [(2, 4, 50), (4, 4, 100)] * 3


def test_a_second_pass_starts_over() -> None:
    seen: Reports = []
    progress = Progress([1, 2], parts=2, callback=collect(seen))
    assert list(progress) == list(progress) == [1, 2]
    assert seen == [(1, 2, 50), (2, 2, 100)] * 2


@pytest.mark.parametrize("source", [range(50_000), list(range(50_000))])
def test_no_line_of_python_runs_for_an_item(source: Any) -> None:
    """What an item costs is that of the iteration itself: bench/progress.py measures it."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    progress = Progress(source, callback=lambda: None)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in progress:
            pass
    finally:
        sys.setprofile(before)
    assert calls < len(source) / 50


# Rate and time left


def test_a_pass_has_a_rate_and_a_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(tracker.time, "monotonic", lambda: now)
    progress = Progress(range(10), parts=5)
    assert (progress.rate, progress.eta_s) == (None, None)
    for i in progress:
        if i == 4:
            assert (progress.rate, progress.eta_s) == (2.0, 3.0)
        now += 0.5
    assert (progress.rate, progress.eta_s) == (2.0, 0.0)
    now += 100
    assert progress.rate == 2.0


def test_without_elapsed_time_there_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker.time, "monotonic", lambda: 100.0)
    progress = Progress(range(3), parts=3)
    for _ in progress:
        assert (progress.rate, progress.eta_s) == (None, None)
    assert (progress.rate, progress.eta_s) == (None, 0.0)
    empty: Progress[int] = Progress([])
    assert (list(empty), empty.rate, empty.eta_s) == ([], None, 0.0)
