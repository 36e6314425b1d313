"""A Celery app whose tasks report with celery-progress and with the bridge: `celery -A tests.django.compat_app worker`.

The two differ only in an import.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")

import django

django.setup()

from celery_progress.backend import ProgressRecorder as TheirRecorder  # noqa: E402  # Django first

from django_bridge.compat.celery_progress import ProgressRecorder  # noqa: E402

app = Celery("compat", set_as_current=False)
app.config_from_object("django.conf:settings", namespace="CELERY")


def work(recorder: Any, items: int, gate: str, fails: bool) -> str:
    """Does half of the items, waits for the file `gate`, then does the rest."""
    for done in range(1, items + 1):
        recorder.set_progress(done, items, description=f"{done} of {items}")
        if done == items // 2:
            deadline = time.monotonic() + 60
            time.sleep(0.2)
            recorder.increment_progress(0, description="at the gate")
            while not Path(gate).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
    if fails:
        raise ValueError("13 is not a coin")
    return "all in"


@app.task(bind=True)
def theirs(self: Any, items: int, gate: str, fails: bool = False) -> str:
    return work(TheirRecorder(self), items, gate, fails)


@app.task(bind=True)
def ours(self: Any, items: int, gate: str, fails: bool = False) -> str:
    return work(ProgressRecorder(self), items, gate, fails)


@app.task(bind=True)
def ours_for(self: Any, user_id: int, items: int) -> None:
    recorder = ProgressRecorder(self, user=user_id)
    for done in range(1, items + 1):
        recorder.set_progress(done, items)


@app.task(bind=True, max_retries=1)
def tried_twice(self: Any) -> str:
    recorder = ProgressRecorder(self)
    recorder.set_progress(1 + self.request.retries, 2)
    if not self.request.retries:
        raise self.retry(countdown=0)
    return "the second time"


@app.task(bind=True, notifier_user="user_id")
def reported(self: Any, user_id: int, items: int) -> None:
    """A Celery task that is reported without the recorder as well."""
    recorder = ProgressRecorder(self)
    for done in range(1, items + 1):
        recorder.set_progress(done, items)
