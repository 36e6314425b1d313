"""`Progress` over QuerySets: its queries, its chunks."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_bridge import Progress
from django_bridge.loop import arguments
from django_bridge.loop import progress as progress_module
from tests.django.reports import Reports, collect
from tests.django.sample.models import SimpleModel


def test_a_queryset_costs_one_count_besides_its_rows(rows: int) -> None:
    seen: Reports = []
    with CaptureQueriesContext(connection) as queries:
        walked = [row.title for row in Progress(SimpleModel.objects.order_by("pk"), parts=5, callback=collect(seen))]
    assert walked == [f"row {n}" for n in range(rows)]
    assert [done for done, _, _ in seen] == [4, 8, 12, 16, 20]
    statements = [query["sql"] for query in queries]
    assert len(statements) == 2
    assert statements[0].startswith("SELECT COUNT(*)")


def test_a_queryset_of_many_rows_is_read_in_chunks_and_does_not_fill_its_cache(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (progress_module, arguments):
        monkeypatch.setattr(module, "CHUNK", 10)
    rows_of = SimpleModel.objects.order_by("pk")
    with CaptureQueriesContext(connection) as queries:
        assert len(list(Progress(rows_of, parts=5))) == rows
    assert len(queries) == 2
    assert rows_of._result_cache is None


def test_a_fetched_queryset_costs_no_query(rows: int) -> None:
    rows_of = SimpleModel.objects.all()
    assert len(rows_of) == rows
    with CaptureQueriesContext(connection) as queries:
        assert len(list(Progress(rows_of))) == rows
    assert len(queries) == 0


def test_a_queryset_with_a_total_is_not_counted(rows: int) -> None:
    with CaptureQueriesContext(connection) as queries:
        list(Progress(SimpleModel.objects.all(), total=rows))
    assert len(queries) == 1


def test_a_queryset_prefetches_once(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (progress_module, arguments):
        monkeypatch.setattr(module, "CHUNK", 2)
    for n in range(5):
        Group.objects.create(name=f"group {n}").user_set.add(user)
    with CaptureQueriesContext(connection) as queries:
        for group in Progress(Group.objects.prefetch_related("user_set")):
            assert list(group.user_set.all()) == [user]
    assert len(queries) == 3


def test_a_sliced_queryset_of_values_is_counted_as_sliced(rows: int) -> None:
    seen: Reports = []
    titles = SimpleModel.objects.order_by("pk").values_list("title", flat=True)[5:9]
    assert list(Progress(titles, parts=2, callback=collect(seen))) == ["row 5", "row 6", "row 7", "row 8"]
    assert seen == [(2, 4, 50), (4, 4, 100)]


def test_rows_deleted_after_the_count_do_not_keep_the_pass_below_100_percent(rows: int) -> None:
    progress = Progress(SimpleModel.objects.order_by("pk"), total=rows + 3)
    assert len(list(progress)) == rows
    assert (progress.done, progress.total, progress.percent) == (rows, rows, 100)


async def test_an_async_for_over_a_queryset_costs_one_count_besides_its_rows(rows: int) -> None:
    seen: Reports = []
    titles = [row.title async for row in Progress(SimpleModel.objects.order_by("pk"), parts=4, callback=collect(seen))]
    assert len(titles) == rows
    assert [done for done, _, _ in seen] == [5, 10, 15, 20]
