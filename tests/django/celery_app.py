"""The Celery app of the test project: `celery -A tests.django.celery_app worker`."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")

from django_bridge.task import heartbeat  # after the environment is set

heartbeat.EVERY_S = float(os.environ.get("NOTIFIER_TEST_BEAT_S", heartbeat.EVERY_S))  # type: ignore[misc]

app = Celery("tests")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
