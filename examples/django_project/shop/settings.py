"""Settings that differ between machines come from the environment; the defaults are for a single machine."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# For your own machine only: the users' password is public.
DEBUG = True
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for a trial on your own machine, not for production")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_bridge",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_bridge.middleware.live",  # reads the page's cursor before the view reads its data
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", BASE_DIR / "shop.sqlite3"),
        "OPTIONS": {"timeout": 20},  # web server and worker share the file
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
LANGUAGES = [("en", "English"), ("ru", "Русский")]  # of the widgets; the shop itself is in English
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
# Another example on the same host may have a session too.
SESSION_COOKIE_NAME = "shop_session"

CELERY_BROKER_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/1")
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

NOTIFIER = {
    "TRANSPORT": "http",
    "URL": os.environ.get("NOTIFIER_URL", "http://127.0.0.1:8000"),  # where this process reaches the service
    "PUBLIC_URL": os.environ.get("NOTIFIER_PUBLIC_URL", os.environ.get("NOTIFIER_URL", "http://127.0.0.1:8000")),
    "API_KEY": os.environ["NOTIFIER_API_KEY"],
    "JWT_SECRET": os.environ["NOTIFIER_JWT_SECRET"],
}

# Duration of the simulated work.
JOB_SECONDS = float(os.environ.get("SHOP_JOB_SECONDS", "8"))
