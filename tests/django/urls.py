"""The URLs of the test project: a page with the tag, and a view with a task."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

from django_bridge import Message, Progress, Task, progress

PAGE = """<!doctype html>
<title>Test</title>
{% load notifier %}{% notifier %}
<script>
  window.seen = [];
  for (const name of ["state", "hello", "message", "task"])
    document.addEventListener(`notifier:${name}`, ({ detail }) => seen.push({ name, detail }));
</script>
"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


@progress("Walk", "The walk begins", "The walk is over")
def work(request: HttpRequest, task: Task | None = None) -> HttpResponse:
    for _ in Progress(range(10), parts=5, task=task):
        pass
    return HttpResponse(Message(from_user=request.user, to_users=request.user, subject="Walked").send())


urlpatterns = [
    path("admin/", admin.site.urls),
    path("notifier/", include("django_bridge.urls")),
    path("live/", include("tests.django.live_pages")),
    path("page/", page),
    path("labour/", work),
]
