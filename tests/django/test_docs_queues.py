"""Runs the examples of docs/queues.md."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils.module_loading import import_string

from django_bridge import Progress
from django_bridge.models import TaskRecord
from tests.django import background_tasks
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "queues.md").read_text("utf-8")
CODE = {code.split()[0] + code.split()[1]: code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S)}
SHOP = "tests.django.test_docs_queues"


def run(starts: str, **names: Any) -> dict[str, Any]:
    """Run the one example that starts so, with the shop's modules being this one."""
    (code,) = [code for first, code in CODE.items() if first.startswith(starts)]
    exec(compile(code.replace("shop.tasks", SHOP), "docs/queues.md", "exec"), names)
    return names


def test_the_middleware() -> None:
    assert all(callable(import_string(path)) for path in run("MIDDLEWARE")["MIDDLEWARE"])


def test_djangos_tasks(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = run("TASKS", _=str)["TASKS"]
    settings["default"]["OPTIONS"]["BACKEND"] = f"{background_tasks.PACKAGE}.backends.immediate.ImmediateBackend"
    worked: list[int] = []
    with override_settings(TASKS=settings):
        names = {"background_task": background_tasks.background_task, "Progress": Progress, "_": str}
        shop = run("@background_task", work_on=worked.append, __name__=SHOP, **names)
        monkeypatch.setitem(globals(), "link_to_rows", shop["link_to_rows"])
        shop["import_rows"].enqueue(user.pk, 3)
    row = TaskRecord.objects.get()
    assert (row.name, row.status, row.done, worked) == ("Import of 3 rows", "succeeded", 3, [0, 1, 2])
    assert (row.url, row.url_text) == ("https://example.org/rows/?last=3", "Show them")
