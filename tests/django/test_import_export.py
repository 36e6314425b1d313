"""The recipe for django-import-export: an import in the admin is a task with a bar."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.shortcuts import redirect
from django.test import Client, override_settings
from django.urls import include, path, reverse

from django_bridge import current_task, progress_action
from django_bridge.admin import TaskRecordAdmin
from django_bridge.models import TaskRecord
from django_bridge.task import reporter
from django_bridge.testing import outbox
from tests.django.examples import run
from tests.django.sample.models import SimpleModel
from tests.support import wait_for

EXAMPLE = run(
    "from import_export import resources",
    __name__=__name__,
    Row=SimpleModel,
    current_task=current_task,
    progress_action=progress_action,
    redirect=redirect,
)
site = admin.AdminSite()
site.register(TaskRecord, TaskRecordAdmin)
site.register(SimpleModel, EXAMPLE["RowImportAdmin"])
urlpatterns = [path("admin/", site.urls), path("notifier/", include("django_bridge.urls"))]
IMPORT = "/admin/sample/simplemodel/import/"
PROCESS = "/admin/sample/simplemodel/process_import/"


@pytest.fixture(autouse=True)
def _urls() -> Any:
    with override_settings(ROOT_URLCONF=__name__):
        yield


def confirmed(client: Client, titles: list[str]) -> Any:
    """Upload the rows, see the preview, and confirm them."""
    text = "id,title\n" + "".join(f",{title}\n" for title in titles)
    upload = {"import_file": SimpleUploadedFile("rows.csv", text.encode()), "format": "0", "resource": "0"}
    preview = client.post(IMPORT, upload)
    assert (SimpleModel.objects.count(), outbox.tasks) == (0, []), "the preview stores and shows nothing"
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', preview.content.decode())
    return client.post(PROCESS, dict(hidden))


def test_a_confirmed_import_is_a_task_of_its_user_with_a_bar(boss: Client, user: User) -> None:
    answer = confirmed(boss, [f"title {number}" for number in range(7)])
    wait_for(lambda: TaskRecord.objects.filter(status="succeeded").exists(), what="the end of the import")
    record = TaskRecord.objects.get()
    assert (record.user, record.done, record.total, record.state) == (user, 7, 7, "The rows are in")
    assert SimpleModel.objects.count() == 7
    assert [update["done"] for update in outbox.task_updates if update["done"]] == [1, 2, 3, 4, 5, 6, 7, 7]
    bar = reverse("admin:django_bridge_taskrecord_bar", args=[record.pk])
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, bar)
    page = boss.get(answer["Location"]).content.decode()
    assert f'<notifier-progress task="{record.pk}">' in page
    (back,) = re.findall(rf'href="({PROCESS})"', page)
    assert boss.get(back, follow=True).redirect_chain == [("../", 302)]


def test_an_import_that_fails_halfway_leaves_no_rows_and_a_failed_task(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = SimpleModel.save_base

    def failing(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.title == "title 3" and current_task():
            raise models.ProtectedError("no", set())
        save(self, *args, **kwargs)

    monkeypatch.setattr(SimpleModel, "save_base", failing)
    confirmed(boss, [f"title {number}" for number in range(7)])
    wait_for(lambda: TaskRecord.objects.filter(status="failed").exists(), what="the end of the import")
    assert "1 rows failed" in TaskRecord.objects.get().traceback
    assert SimpleModel.objects.count() == 0


def test_a_cancelled_import_is_rolled_back(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    save = SimpleModel.save_base

    def cancelling(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.title == "title 3" and (task := current_task()):
            outbox.request_cancel(task)
        save(self, *args, **kwargs)

    monkeypatch.setattr(reporter, "REFRESH_S", 0)  # a cancel is seen at the next row
    monkeypatch.setattr(SimpleModel, "save_base", cancelling)
    confirmed(boss, [f"title {number}" for number in range(7)])
    wait_for(lambda: TaskRecord.objects.filter(status="cancelled").exists(), what="the end of the import")
    assert SimpleModel.objects.count() == 0
