"""`NOTIFIER` and its checks; imports before Django is set up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings

from django_bridge import Message, checks, conf, conf_rules
from django_bridge.service import environment
from notifier.api.http import credential
from notifier.errors import ConfigurationError
from notifier.settings import load
from tests.django.checking import AUTHENTICATION, GOOD_HTTP, GOOD_REDIS, LOCALE, SESSION, checked
from tests.support import API_KEY, JWT_SECRET, REPOSITORY


def test_the_service_beside_runserver_has_the_project_s_limits() -> None:
    limits = {"HISTORY_SIZE": 7, "EVENT_HISTORY_SIZE": 8, "TOPIC_HISTORY_SIZE": 9, "TASK_OUTPUT_BYTES": 20_000}
    with override_settings(NOTIFIER={**GOOD_REDIS, **limits}):
        env = environment(conf.settings(), origins="")
    assert {key: env.get(f"NOTIFIER_{key}") for key in limits} == {key: str(value) for key, value in limits.items()}


def test_the_service_beside_runserver_has_the_project_s_secrets_also_where_files_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("another-service's-secret-of-32-bytes")
    for name in ("NOTIFIER_JWT_SECRET_FILE", "NOTIFIER_API_KEYS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "secret"))
    with override_settings(NOTIFIER=GOOD_HTTP):
        configured = conf.settings()
        for name, value in environment(configured, origins="").items():
            monkeypatch.setenv(name, value)
    loaded = load()
    assert (loaded.jwt_secrets, loaded.api_keys) == (configured.jwt_secrets, (configured.api_key,))


@pytest.mark.parametrize(
    "value",
    [
        GOOD_HTTP,
        GOOD_REDIS,
        {"TRANSPORT": "memory", "JWT_SECRET": JWT_SECRET},
        {**GOOD_HTTP, "PUBLIC_URL": "https://example.org/notifier", "TIMEOUT_S": 0.5, "RAISE": True, "TOKEN_TTL_S": 60},
        {**GOOD_REDIS, "REDIS_URL": "unix:///run/redis.sock", "PREFIX": "n:", "SHARDS": 8, "HISTORY_SIZE": 10},
        {**GOOD_REDIS, "HISTORY_TTL_S": 3600, "USER_ID": "tests.django.test_message.name_as_id", "OUTBOX": True},
        {**GOOD_HTTP, "TEST_TRANSPORT": "http", "KEEP_MESSAGES": True, "GROUPS": "builtins.list"},
    ],
)
def test_good_settings_pass_the_check(value: dict[str, Any]) -> None:
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "django_bridge.middleware.live"]):
        assert "no issues" in checked(value)


@pytest.mark.parametrize(
    ("value", "check_id", "words"),
    [
        (None, "E001", "NOTIFIER is missing"),
        ("http", "E001", "must be a dict, not str"),
        ({**GOOD_HTTP, "TRANSPRT": "http"}, "E002", "Did you mean 'TRANSPORT'?"),
        ({**GOOD_HTTP, "timeout_s": 1}, "E002", "Did you mean 'TIMEOUT_S'?"),
        ({**GOOD_HTTP, 7: 1}, "E002", "The keys are TRANSPORT, URL"),
        ({**GOOD_HTTP, "TRANSPORT": "carrier pigeon"}, "E003", "'http', 'redis', 'memory'"),
        ({**GOOD_HTTP, "TRANSPORT": ["http"]}, "E003", "'http', 'redis', 'memory'"),
        ({"TRANSPORT": "http", "API_KEY": API_KEY}, "E004", "NOTIFIER['URL'] is missing"),
        ({"API_KEY": API_KEY}, "E004", "the transport 'http' needs it"),
        ({**GOOD_HTTP, "URL": "notifier:8000"}, "E004", "'notifier:8000'"),
        ({**GOOD_HTTP, "URL": "http://[bad"}, "E004", "is invalid"),
        ({**GOOD_HTTP, "URL": None}, "E004", "is invalid"),
        ({**GOOD_HTTP, "PUBLIC_URL": "/notifier"}, "E005", "as browsers see it"),
        ({"TRANSPORT": "redis"}, "E006", "NOTIFIER['REDIS_URL'] is missing"),
        ({**GOOD_REDIS, "REDIS_URL": "http://redis"}, "E006", "redis://localhost:6379/0"),
        ({**GOOD_REDIS, "PREFIX": "a b"}, "E007", "NOTIFIER_PREFIX"),
        ({**GOOD_REDIS, "SHARDS": 0}, "E008", "NOTIFIER_SHARDS"),
        ({**GOOD_REDIS, "SHARDS": True}, "E008", "NOTIFIER_SHARDS"),
        ({**GOOD_REDIS, "HISTORY_SIZE": "256"}, "E009", "NOTIFIER_HISTORY_SIZE"),
        ({**GOOD_REDIS, "HISTORY_TTL_S": -1}, "E010", "NOTIFIER_HISTORY_TTL_S"),
        ({**GOOD_HTTP, "API_KEY": "with a space"}, "E011", "NOTIFIER_API_KEYS"),
        ({**GOOD_HTTP, "API_KEY": "short"}, "E011", "16 or more characters"),
        ({**GOOD_HTTP, "API_KEY": "a-long-enough-key:publish"}, "E011", "without its scopes"),
        ({**GOOD_HTTP, "API_KEY": "ein-schlüssel-für-alle"}, "E011", "of ASCII"),
        ({**GOOD_HTTP, "ERROR_TEXT": "nowhere.at_all"}, "E025", "takes an exception"),
        ({**GOOD_HTTP, "ERROR_TEXT": None}, "E025", "takes an exception"),
        ({**GOOD_HTTP, "DELIVERY": "later"}, "E024", "'background', 'inline'"),
        ({**GOOD_HTTP, "JWT_SECRET": "short"}, "E012", "at least 32 bytes"),
        ({**GOOD_HTTP, "TOKEN_TTL_S": 1}, "E013", "at least 10"),
        ({**GOOD_HTTP, "TIMEOUT_S": 0}, "E014", "0.1 to 60"),
        ({**GOOD_HTTP, "RAISE": "yes"}, "E015", "True or False"),
        ({**GOOD_HTTP, "USER_ID": "nowhere.at_all"}, "E016", "Dotted path"),
        ({**GOOD_HTTP, "USER_ID": None}, "E016", "Dotted path"),
        ({**GOOD_HTTP, "OUTBOX": "yes"}, "E017", "True or False"),
        ({**GOOD_HTTP, "GROUPS": "nowhere.at_all"}, "E020", "names of groups"),
        ({**GOOD_HTTP, "MAY_CANCEL": "nowhere.at_all"}, "E023", "True or False"),
        ({**GOOD_HTTP, "TEST_TRANSPORT": "locmem"}, "E018", "'http', 'redis', 'memory'"),
        ({**GOOD_HTTP, "TEST_TRANSPORT": "redis"}, "E006", "the transport 'redis' needs it"),
        ({**GOOD_HTTP, "KEEP_MESSAGES": 1}, "E019", "True or False"),
        (
            {key: value for key, value in GOOD_HTTP.items() if key != "JWT_SECRET"},
            "W001",
            "cannot issue tokens for browsers",
        ),
    ],
)
def test_each_problem_is_named_with_a_hint(value: object, check_id: str, words: str) -> None:
    output = checked(value)
    assert f"notifier.{check_id}" in output
    assert words in output
    assert "HINT" in output


KEY = "a-key-of-20-characters"


@pytest.mark.parametrize(
    ("key", "is_accepted"),
    [
        (KEY, True),
        (KEY[:16], True),
        (KEY[:15], False),
        ("a key of 20 characters", True),
        ("!#$%&'()*+-./;<=>?@[]^_`{|}~", True),
        (f" {KEY}", False),
        (f"{KEY} ", False),
        (" " * 16, False),
        ("ein-schlüssel-für-alle", False),
        ("ключ-для-публикации", False),
        (f"{KEY}\N{NO-BREAK SPACE}x", False),
        (f"{KEY},x", False),
        (f"{KEY}\tx", False),
        (f"{KEY}\x00", False),
        (f"{KEY}\x7f", False),
        (f"{KEY}\udcff", False),
    ],
    ids=repr,
)
def test_the_check_and_the_service_accept_the_same_keys(key: str, is_accepted: bool) -> None:
    assert ("notifier.E011" not in checked({**GOOD_HTTP, "API_KEY": key})) is is_accepted
    for entry in (key, f"{key}:publish", f"shop:publish:all:{key}"):
        if is_accepted:
            assert load(api_keys=(entry,), jwt_secret=JWT_SECRET).api_keys == (key,)
        else:
            with pytest.raises(ConfigurationError, match="NOTIFIER_API_KEYS: entry 1: a key must") as caught:
                load(api_keys=(entry,), jwt_secret=JWT_SECRET)
            assert key not in str(caught.value)
    if is_accepted:  # what a publisher sends is what the service reads
        sent = httpx.Headers({"Authorization": f"Bearer {key}"})["Authorization"]
        assert credential(sent) == key


def test_all_problems_are_named_at_once() -> None:
    output = checked({"TRANSPORT": "redis", "SHARDS": 0, "RAISE": 1, "X": 1})
    assert [number for number in range(1, 21) if f"E{number:03}" in output] == [2, 6, 8, 15]


@pytest.mark.parametrize(("key", "secret"), [("API_KEY", "a secret"), ("JWT_SECRET", "a secret"), ("REDIS_URL", "a:b")])
def test_no_secret_is_shown(key: str, secret: str) -> None:
    assert secret not in checked({**GOOD_HTTP, key: secret}).replace("JWT_SECRET", "")
    assert JWT_SECRET not in repr(conf.read(GOOD_HTTP))
    assert API_KEY not in repr(conf.read(GOOD_HTTP))
    assert "word" not in repr(conf.read(GOOD_REDIS))


def test_in_production_the_memory_transport_is_a_warning() -> None:
    value = {"TRANSPORT": "memory", "JWT_SECRET": JWT_SECRET}
    assert "notifier.W002" in checked(value, deploy=True)
    assert "notifier.W002" not in checked(GOOD_HTTP, deploy=True)


def test_in_production_tokens_without_tls_are_a_warning() -> None:
    assert "notifier.W004" in checked(GOOD_HTTP, deploy=True)
    assert "notifier.W004" not in checked(GOOD_HTTP)
    assert "notifier.W004" not in checked({**GOOD_HTTP, "PUBLIC_URL": "https://example.org/n"}, deploy=True)


@pytest.mark.parametrize(
    ("sources", "is_allowed"),
    [
        (["'self'"], False),
        (["'self'", "https://notify.example.org"], True),
        (["https://notify.example.org:8443"], False),
        (["notify.example.org:*"], True),
        (["https://*.example.org"], True),
        (["http://notify.example.org"], False),
        (["https:"], True),
        (["*"], True),
        ("'self' https://notify.example.org", True),
    ],
)
@pytest.mark.parametrize("form", ["SECURE_CSP", "CONTENT_SECURITY_POLICY", "CSP_CONNECT_SRC", "fallback"])
def test_in_production_a_policy_that_blocks_the_connection_is_a_warning(
    form: str, sources: Any, is_allowed: bool
) -> None:
    policies = {
        "SECURE_CSP": {"SECURE_CSP": {"connect-src": sources, "default-src": ["'none'"]}},
        "CONTENT_SECURITY_POLICY": {"CONTENT_SECURITY_POLICY": {"DIRECTIVES": {"connect-src": sources}}},
        "CSP_CONNECT_SRC": {"CSP_CONNECT_SRC": sources},
        "fallback": {"SECURE_CSP": {"default-src": sources}},
    }
    value = {**GOOD_HTTP, "PUBLIC_URL": "https://notify.example.org"}
    with override_settings(**policies[form], ALLOWED_HOSTS=["example.org"]):
        assert ("notifier.W005" not in checked(value, deploy=True)) is is_allowed
        assert "notifier.W005" not in checked(value)


def test_a_service_below_the_sites_own_address_needs_no_more_than_self() -> None:
    with override_settings(SECURE_CSP={"connect-src": ["'self'"]}, ALLOWED_HOSTS=[".example.org"]):
        value = {**GOOD_HTTP, "PUBLIC_URL": "https://www.example.org/notifier"}
        assert "notifier.W005" not in checked(value, deploy=True)


@pytest.mark.parametrize(
    ("middleware", "problem"),
    [
        ([SESSION, LOCALE, AUTHENTICATION], ""),
        ([SESSION, AUTHENTICATION], ""),
        ([SESSION], "AuthenticationMiddleware is missing"),
        ([AUTHENTICATION, SESSION], "comes before SessionMiddleware"),
        ([LOCALE, SESSION, AUTHENTICATION], "LocaleMiddleware comes before"),
    ],
)
def test_in_production_pages_without_a_user_are_a_warning(middleware: list[str], problem: str) -> None:
    with override_settings(MIDDLEWARE=middleware):
        output = checked(GOOD_HTTP, deploy=True)
        assert ("notifier.W006" in output) is bool(problem)
        assert problem in output


def test_with_invalid_settings_the_first_call_raises() -> None:
    with (
        override_settings(NOTIFIER={"TRANSPORT": "redis"}),
        pytest.raises(ImproperlyConfigured, match=r"REDIS_URL.*is missing"),
    ):
        Message(to_users=1, subject="Test").send()


def test_a_dict_changed_in_place_is_read_again() -> None:
    value = dict(GOOD_HTTP)
    with override_settings(NOTIFIER=value):
        assert conf.settings().timeout_s == 2
        value["TIMEOUT_S"] = 1
        assert conf.settings().timeout_s == 1


def test_browsers_use_the_same_address_unless_another_is_set() -> None:
    assert conf.read({**GOOD_HTTP, "URL": "http://n:8000/"}).public_url == "http://n:8000"
    assert conf.read({**GOOD_HTTP, "PUBLIC_URL": "https://example.org/n/"}).public_url == "https://example.org/n"


# Imports


def python(program: str) -> None:
    """Run a program in a new interpreter, with warnings as errors."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_the_package_and_its_names_can_be_imported_before_apps_are_loaded() -> None:
    python(
        "import django_bridge, sys\n"
        "assert 'django' not in sys.modules\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'django_bridge'])\n"
        "from django_bridge import ALL, Message, Progress, Task, group, progress\n"
        "assert callable(progress) and callable(group) and repr(ALL) == 'ALL'\n"
        "import django; django.setup()\n"
        "from django_bridge import progress as again\n"
        "assert again is progress\n"
    )


def test_progress_needs_no_settings() -> None:
    python("from django_bridge import Progress\nassert list(Progress(range(3), callback=lambda: None)) == [0, 1, 2]\n")


def test_neither_the_services_packages_nor_other_transports_are_loaded() -> None:
    python(
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.django.settings'\n"
        "import django; django.setup()\n"
        "from django_bridge import Message; Message(to_users=1, subject='x').send()\n"
        "loaded = {'fastapi', 'uvicorn', 'pydantic', 'starlette', 'sse_starlette'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "assert 'django_bridge.publisher.http' not in sys.modules\n"
    )


def test_without_celery_send_is_a_plain_method() -> None:
    python(
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.django.settings'\n"
        "sys.modules['celery'] = None\n"
        "import django; django.setup()\n"
        "from django_bridge import Message\n"
        "from django_bridge.testing import outbox\n"
        "message = Message(to_users=1, subject='x')\n"
        "assert type(message.send).__name__ == 'method'\n"
        "assert message.send() == outbox.messages[0]['id']\n"
    )


def test_no_migration_is_missing() -> None:
    call_command("makemigrations", "django_bridge", check=True, dry_run=True, verbosity=0)


def test_each_check_has_a_number_of_its_own() -> None:
    numbers = [rule.number for rule in conf_rules.RULES.values()]
    assert sorted(numbers) == sorted(set(numbers))
    assert checks.check_settings.__doc__ is not None
    assert f"`notifier.E001`-`E{max(numbers):03}`" in checks.check_settings.__doc__
