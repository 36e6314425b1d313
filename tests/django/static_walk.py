"""Run by test_static_files.py in a separate process: collects the static files of a project, renders a page, and
fetches each module and each icon as a browser does, through WhiteNoise. The argument is JSON with settings."""

from __future__ import annotations

import json
import re
import sys
from typing import Any
from urllib.parse import urljoin

import django
from django.conf import settings

from notifier.rules import ICONS
from tests.credentials import JWT_SECRET

more: dict[str, Any] = json.loads(sys.argv[1])
settings.configure(
    **{
        "SECRET_KEY": "for tests",
        "ALLOWED_HOSTS": ["*"],
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.staticfiles",
            "django_bridge",
        ],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        # The tables at once, for a quarter of the processor time.
        "MIGRATION_MODULES": dict.fromkeys(("auth", "contenttypes", "django_bridge")),
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "MIDDLEWARE": ["whitenoise.middleware.WhiteNoiseMiddleware"],
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        "STATIC_URL": "/static/",
        "STATIC_ROOT": "collected",
        "ROOT_URLCONF": "django_bridge.urls",
        "NOTIFIER": {"TRANSPORT": "memory", "URL": "https://notifier.example.org", "JWT_SECRET": JWT_SECRET},
        **more,
    }
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402  # Django first
from django.core.management import call_command  # noqa: E402
from django.template import Context, Template  # noqa: E402
from django.test import Client  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
if not more.get("WHITENOISE_USE_FINDERS"):
    call_command("collectstatic", interactive=False, verbosity=0)
user = User.objects.create(username="ann")
messages = [type("Message", (), {"level": 20, "message": "Hi"})]
part = Template("{% load notifier %}{% notifier_messages %}")
page = Template("{% load notifier %}{% notifier %}{% include part %}").render(
    Context({"user": user, "csp_nonce": "abc", "messages": messages, "part": part})
)
match = re.search(r'<script type="importmap" nonce="abc">(.*?)</script>', page)
imports: dict[str, str] = json.loads(match[1])["imports"] if match else {}
client = Client(headers={"host": "example.org"})
origin = "https://example.org"
answers: dict[str, int] = {}
waiting = [urljoin(origin, source) for source in re.findall(r'<script type="module" src="(.*?)"', page)]
names = {urljoin(origin, plain): urljoin(origin, address) for plain, address in imports.items()}
for icon in ICONS:
    plain = urljoin(origin, f"{settings.STATIC_URL}notifier/icons/{icon}.svg")
    waiting.append(names.get(plain, plain))
while waiting:
    url = waiting.pop()
    if url in answers:
        continue
    answer = client.get(url.replace("https://cdn.example.org", ""))
    code = (b"".join(answer.streaming_content) if answer.streaming else answer.content).decode()  # type: ignore[attr-defined]
    answers[url] = answer.status_code
    if answer.status_code == 200:
        code = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)  # types in comments
        for specifier in re.findall(r"""(?:\bfrom|\bimport\(?)\s*["'](\.[^"']+)["']""", code):
            plain = urljoin(url, specifier)
            waiting.append(names.get(plain, plain))
print(json.dumps({"answers": answers, "maps": page.count("importmap"), "page": page}))
