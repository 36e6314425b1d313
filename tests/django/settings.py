"""A real Django project for the tests of the bridge. Addresses come from the environment, so that the tests and the
processes they start use the same."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import django

from tests.credentials import API_KEY, JWT_SECRET

SECRET_KEY = "for tests only, but long enough to be taken seriously by everybody"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.django.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
LANGUAGE_CODE = "en"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_bridge",
    "tests.django.sample",
]
HAS_QUEUE_TABLE = django.VERSION >= (5, 2) and find_spec("django_tasks_db") is not None
if HAS_QUEUE_TABLE:
    INSTALLED_APPS += [*(["django_tasks"] if django.VERSION < (6, 0) else []), "django_tasks_db"]
if find_spec("import_export") is not None:
    INSTALLED_APPS += ["import_export"]
_tasks = "django.tasks" if find_spec("django.tasks") else "django_tasks"
TASKS = {
    "default": {"BACKEND": f"{_tasks}.backends.immediate.ImmediateBackend"},
    "table": {
        "BACKEND": "django_bridge.tasks_backend.ReportedBackend",
        "OPTIONS": {"BACKEND": "django_tasks_db.DatabaseBackend"},
    },
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
if "NOTIFIER_TEST_LIVE" in os.environ:
    MIDDLEWARE += ["django.middleware.locale.LocaleMiddleware", "django_bridge.middleware.live"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

_folder = Path(os.environ.get("NOTIFIER_TEST_FOLDER", "."))
DATABASES = {
    name: {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _folder / f"{name}.sqlite3",
        "OPTIONS": {"timeout": 20},
    }
    for name in ("default", "other")
}
if "NOTIFIER_TEST_POSTGRES" in os.environ:  # "folder of the socket:prefix of the databases"; see test_postgresql
    _socket, _prefix = os.environ["NOTIFIER_TEST_POSTGRES"].split(":")
    DATABASES = {
        name: {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": _socket,
            "NAME": f"{_prefix}_{name}",
            "USER": "notifier",
        }
        for name in ("default", "other")
    }

NOTIFIER = {"TRANSPORT": "memory", "URL": "http://notifier.test:8000", "API_KEY": API_KEY, "JWT_SECRET": JWT_SECRET}
if "NOTIFIER_TEST_REDIS_URL" in os.environ:
    NOTIFIER |= {"TRANSPORT": "redis", "REDIS_URL": os.environ["NOTIFIER_TEST_REDIS_URL"]}
if "NOTIFIER_TEST_SERVICE_URL" in os.environ:
    NOTIFIER |= {"TRANSPORT": "http", "URL": os.environ["NOTIFIER_TEST_SERVICE_URL"]}
if "NOTIFIER_TEST_TASKS_GROUP" in os.environ:
    NOTIFIER |= {"TASKS_GROUP": os.environ["NOTIFIER_TEST_TASKS_GROUP"]}
if "NOTIFIER_TEST_OUTBOX" in os.environ:
    NOTIFIER |= {"OUTBOX": True, "TIMEOUT_S": 0.6}
if "NOTIFIER_TEST_LIVE" in os.environ:  # a view waits for a tenth of it, and the machine may be busy
    NOTIFIER |= {"TIMEOUT_S": 30}

CELERY_BROKER_URL = os.environ.get("NOTIFIER_TEST_CELERY_URL", "memory://")
CELERY_RESULT_BACKEND = os.environ.get("NOTIFIER_TEST_CELERY_URL")
