"""`path("celery-progress/", include("django_bridge.compat.celery_progress_urls"))`, under celery-progress's names."""

from __future__ import annotations

from django.urls import re_path

from django_bridge.compat import celery_progress_views as views

app_name = "celery_progress"
urlpatterns = [
    re_path(r"^(?P<task_id>[\w-]+)/$", views.get_progress, name="task_status"),
    re_path(r"^g/(?P<group_id>[\w-]+)/$", views.get_group_progress, name="group_status"),
]
