"""A Django project in one file with django-eventstream, without storage: a channel for each path."""

from __future__ import annotations

import json

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_eventstream"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a server that lives for a minute",
    USE_TZ=True,
)
django.setup()

import django_eventstream  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import include, path  # noqa: E402


def publish(request: HttpRequest) -> JsonResponse:
    body = json.loads(request.body)
    django_eventstream.send_event(body["channel"], "bench", body["text"], json_encode=False)
    return JsonResponse({"ok": True})


urlpatterns = [
    path("events/<str:channel>", include(django_eventstream.urls), {"format-channels": ["{channel}"]}),
    path("publish", publish),
]
app = get_asgi_application()
