"""A project with a custom user model, on an in-memory database that all threads share."""

from __future__ import annotations

from tests.support import API_KEY, JWT_SECRET

SECRET_KEY = "for tests only, but long enough to be taken seriously by everybody"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_bridge", "tests.django.people"]
AUTH_USER_MODEL = "people.Person"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:people?mode=memory&cache=shared"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
NOTIFIER = {
    "TRANSPORT": "memory",
    "API_KEY": API_KEY,
    "JWT_SECRET": JWT_SECRET,
    "USER_LANGUAGE": "tests.django.people.models.language_of",
}
