"""The panel of django-debug-toolbar, in a separate process: the toolbar refuses to run under tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import API_KEY, JWT_SECRET, REPOSITORY, Service

PROGRAM = f"""
import asyncio, re, sys
from django.conf import settings
settings.configure(
    DEBUG=True, SECRET_KEY="for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], INTERNAL_IPS=["127.0.0.1"],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles",
                    "debug_toolbar", "django_bridge"],
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"], STATIC_URL="static/",
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}},
    TEMPLATES=[{{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}}],
    DEBUG_TOOLBAR_PANELS=["django_bridge.panel.NotifierPanel"],
    NOTIFIER={{"TRANSPORT": "http", "URL": sys.argv[1], "API_KEY": {API_KEY!r}, "JWT_SECRET": {JWT_SECRET!r},
              "TIMEOUT_S": 0.2}},
)
import django; django.setup()
from asgiref.sync import sync_to_async
from debug_toolbar.toolbar import debug_toolbar_urls
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django_bridge import Message

def send(request):
    return HttpResponse("<body>" + Message(to_users=1, subject="A").send() + "</body>")
async def asend(request):
    return await sync_to_async(send)(request)
def nothing(request):
    return HttpResponse("<body></body>")
urlpatterns = [path("send/", send), path("asend/", asend), path("nothing/", nothing), *debug_toolbar_urls()]

def panel(page):
    request_id = re.search(r'data-request-id="([^"]+)"', page)[1]
    query = {{"request_id": request_id, "panel_id": "NotifierPanel"}}
    return page, Client().get("/__debug__/render_panel/", query).json()["content"]

async def apage(address):
    return (await AsyncClient().get(address)).content.decode()

for address in ("/send/", "/asend/", "/nothing/"):
    pages = [Client().get(address).content.decode()]
    if address == "/asend/":
        pages = [asyncio.run(apage(address))]
    for page in pages:
        bar, content = panel(page)
        sent = re.search("<body>([0-9a-z]+)", bar)
        print(address, re.search(r"<small>([^<]*call[^<]*)", bar)[1], sent and f"message {{sent[1]}}" in content,
              "Error" in content, "ConnectError" in content, "http" in content, sep="|")
"""


def run(url: str, folder: Path) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, url],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("away", [False, True], ids=["with the service", "without it"])
def test_the_panel_shows_calls_and_failures_of_a_request(bridge_service: Service, tmp_path: Path, away: bool) -> None:
    lines = run("http://127.0.0.1:1" if away else bridge_service.url, tmp_path)
    subtitle = "1 call, 1 failed" if away else "1 call"
    assert lines == [
        f"/send/|{subtitle}|True|True|{away}|True",
        f"/asend/|{subtitle}|True|True|{away}|True",
        "/nothing/|0 calls|None|False|False|True",
    ]
