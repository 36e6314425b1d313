"""Runs every example of docs/migrating.md: before and after do the same."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings

from django_bridge import conf_rules, tokens
from django_bridge.models import TaskRecord
from django_bridge.testing import outbox
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "migrating.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs/migrating.md", "exec"), names)
    return names


@pytest.fixture
def eager() -> Iterator[Any]:
    before = celery.current_app._get_current_object()
    app = celery.Celery("migrating", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    app.set_current()
    yield app
    before.set_current()
    app.close()


def test_there_are_six_examples() -> None:
    assert len(CODE) == 6


def test_only_the_import_of_a_recorder_changes(eager: Any) -> None:
    before, after = CODE[:2]
    assert before.partition("@shared_task")[2] == after.partition("@shared_task")[2]
    results = [run(code, __name__=f"side{n}")["my_task"].delay(3) for n, code in enumerate((before, after))]
    assert [result.get() for result in results] == ["done", "done"]
    row = TaskRecord.objects.get()
    assert (row.pk, row.name, row.state, row.done, row.total) == (results[1].id, "My task", "working", 3, 3)
    assert row.status == "succeeded"


def test_the_final_version_uses_the_decorator(eager: Any, user: User) -> None:
    worked: list[int] = []
    assert run(CODE[2], work_on=worked.append, __name__="side2")["my_task"].delay(user.pk, 3).get() == "done"
    assert worked == [0, 1, 2]
    assert TaskRecord.objects.get().status == "succeeded"


def test_only_the_import_of_send_event_changes() -> None:
    before, after = CODE[3:5]
    assert before.partition("\nsend_event(")[2] == after.partition("\nsend_event(")[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the other package
        run(before)
    run(after)
    assert outbox.events == [{"to": ["group:test"], "type": "channel.message", "data": {"text": "hello world"}}]


def channels_of(user: User) -> list[str]:
    channels: list[str] = run(CODE[5])["channels_of"](user)
    return channels


def test_a_function_gives_the_channels_of_a_user(user: User) -> None:
    keys = {"API_KEY": "k" * 16, "JWT_SECRET": "s" * 32}
    settings = run(CODE[5])["NOTIFIER"] | {"GROUPS": f"{__name__}.channels_of", **keys}
    assert conf_rules.problems(settings) == []
    user.groups.add(Group.objects.create(name="staff"))
    with override_settings(NOTIFIER=settings):
        assert tokens.group_names(user) == ["test", f"user-{user.pk}", "staff"]
