"""`NotifierHandler`: chosen users get log records, and no failure of it disturbs logging."""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from django_bridge import log as handlers
from django_bridge.log import NotifierHandler
from django_bridge.testing import outbox
from tests.django.conftest import http_settings
from tests.support import REPOSITORY, Service, wait_for

ours = logging.getLogger("shop.orders")


@pytest.fixture
def boss() -> User:
    return User.objects.create_superuser("boss")


def attach(**options: Any) -> NotifierHandler:
    handler = NotifierHandler(**options)
    logging.getLogger().addHandler(handler)
    return handler


@pytest.fixture(autouse=True)
def _detached() -> Iterator[None]:
    before = list(logging.getLogger().handlers)
    yield
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        handler.flush()
        handler.close()


def user_7(record: logging.LogRecord) -> int:
    return 7


def fail(text: str = "the till is stuck") -> None:
    try:
        raise ValueError("13 is not a coin")
    except ValueError:
        ours.exception(text)


# Recipients and content


def test_superusers_get_the_error_and_its_place(boss: User, user: User) -> None:
    handler = attach(url="/errors/")
    fail("the till\nis stuck")
    handler.flush()
    (message,) = outbox.messages
    assert message["to"] == [f"user:{boss.pk}"]
    assert (message["subject"], message["level"], message["url"]) == ("ERROR: the till", "error", "/errors/")
    assert f"shop.orders, {__file__}:" in message["text"]
    assert "ValueError: 13 is not a coin" in message["text"]
    assert "Traceback" not in message["text"]


@pytest.mark.parametrize(
    ("to", "channel"),
    [("group:oncall", "group:oncall"), ("tests.django.test_log.user_7", "user:7"), (user_7, "user:7")],
)
def test_recipients_can_be_a_group_a_path_or_a_function(to: Any, channel: str) -> None:
    handler = attach(to=to)
    fail()
    handler.flush()
    assert outbox.messages[0]["to"] == [channel]


def test_recipients_can_be_staff_and_any_other_name_is_an_error(boss: User) -> None:
    handler = attach(to="staff")
    fail()
    handler.flush()
    assert outbox.messages[0]["to"] == [f"user:{boss.pk}"]
    with pytest.raises(ValueError, match="'everybody'"):
        NotifierHandler(to="everybody")


def test_django_configures_it_and_a_formatter_sets_the_text(boss: User) -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"long": {"format": "%(message)s!"}},
        "handlers": {"people": {"class": "django_bridge.log.NotifierHandler", "level": "WARNING", "formatter": "long"}},
        "loggers": {"shop.config": {"handlers": ["people"]}},
    }
    logging.config.dictConfig(config)
    logger = logging.getLogger("shop.config")
    logger.warning("low stock")
    logger.info("not this")
    (handler,) = logger.handlers
    handler.flush()
    logger.removeHandler(handler)
    assert [(message["text"], message["level"]) for message in outbox.messages] == [("low stock!", "warning")]


def test_the_error_of_a_view_has_its_path(boss: User) -> None:
    handler = attach()
    with override_settings(ROOT_URLCONF="tests.django.test_log"):
        Client(raise_request_exception=False).get("/broken/")
    handler.flush()
    assert "GET /broken/" in outbox.messages[0]["text"]


def broken(request: object) -> None:
    raise RuntimeError("broken")


urlpatterns = [path("broken/", broken)]


def test_invalid_characters_are_replaced_and_long_texts_are_cut(boss: User) -> None:
    handler = attach()
    ours.error("%s", "\x00\ud800" + "x" * 100_000)
    handler.flush()
    assert outbox.messages[0]["subject"].startswith("ERROR: \ufffd\ufffdxxx")


# Limits


def test_records_of_one_place_are_sent_once_and_then_with_a_count(boss: User) -> None:
    handler = attach(repeat_s=60)
    for _ in range(5):
        fail()
    handler.flush()
    assert len(outbox.messages) == 1
    handler._rate._repeat_s = 0  # the time is over
    fail()
    handler.flush()
    assert [message["data"].get("left_out") for message in outbox.messages[1:]] == [4]
    assert "4 more were left out" in outbox.messages[1]["text"]


def test_messages_per_minute_are_limited(boss: User) -> None:
    handler = attach(per_minute=3)
    for line in range(50):
        ours.handle(logging.LogRecord("shop.orders", logging.ERROR, "a.py", line, "storm", (), None))
    handler.flush()
    assert len(outbox.messages) == 3


# Failures


def test_records_logged_while_sending_are_ignored(boss: User) -> None:
    def recipients(record: logging.LogRecord) -> User:
        logging.getLogger("shop.inner").error("again")
        return boss

    handler = attach(to=recipients)
    fail()
    handler.flush()
    assert len(outbox.messages) == 1


def test_an_unreachable_service_neither_blocks_logging_nor_causes_messages(
    boss: User, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(NOTIFIER=http_settings("http://127.0.0.1:1", TIMEOUT_S=5)):
        handler = attach()
        started = time.monotonic()
        fail()
        assert time.monotonic() - started < 4
        handler.flush()
        wait_for(lambda: "a log record could not be sent" in caplog.text, what="the warning")
    assert "the till is stuck" in caplog.text
    assert not outbox.messages


def test_a_broken_transaction_and_a_rollback_do_not_stop_it(boss: User) -> None:
    handler = attach()
    with transaction.atomic():
        with pytest.raises(DatabaseError):
            connection.cursor().execute("SELECT nothing FROM nowhere")
        fail()
        transaction.set_rollback(True)
    handler.flush()
    assert len(outbox.messages) == 1


def test_a_record_that_cannot_be_formatted_goes_to_logging_itself(
    boss: User, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = NotifierHandler()
    handler.handle(logging.LogRecord("shop", logging.ERROR, "a.py", 1, "%d", ("x",), None))
    handler.handle(logging.LogRecord("shop", logging.ERROR, "a.py", 2, "fine", (), None))
    handler.flush()
    assert "--- Logging error ---" in capfd.readouterr().err
    assert [message["subject"] for message in outbox.messages] == ["ERROR: fine"]


def test_an_error_of_the_recipients_function_does_not_stop_the_next_record() -> None:
    seen: list[int] = []

    def recipients(record: logging.LogRecord) -> int:
        seen.append(record.lineno)
        return 7 // (len(seen) - 1)

    handler = NotifierHandler(to=recipients)
    for line in (1, 2):
        handler.handle(logging.LogRecord("shop", logging.ERROR, "a.py", line, "x", (), None))
    handler.flush()
    assert len(outbox.messages) == 1


def test_a_full_queue_drops_records_and_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MAX_QUEUED", 1)
    go = threading.Event()

    def recipients(record: logging.LogRecord) -> int:
        go.wait(10)
        return 1

    handler = NotifierHandler(to=recipients, per_minute=100)
    for line in range(5):
        handler.handle(logging.LogRecord("shop", logging.ERROR, "a.py", line, "x", (), None))
    go.set()
    handler.flush()
    handler.handle(logging.LogRecord("shop", logging.ERROR, "a.py", 9, "x", (), None))
    handler.flush()
    assert sum(1 + message["data"]["left_out"] for message in outbox.messages) == 6


def test_the_last_record_is_sent_before_the_process_ends(over_http: Service) -> None:
    program = (
        "import logging, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.django.settings'\n"
        "import django; django.setup()\n"
        "from django_bridge.log import NotifierHandler\n"
        "logging.getLogger().addHandler(NotifierHandler(to='group:last'))\n"
        "logging.getLogger('shop').error('the last word')\n"
    )
    env = {**os.environ, "NOTIFIER_TEST_SERVICE_URL": over_http.url}
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=env, check=True, timeout=30)
    with over_http.user("nobody", groups=["last"]) as client:
        subjects = [message["subject"] for message in client.get("/v1/inbox").json()["messages"]]
    assert subjects.count("ERROR: the last word") == 1  # other tests may have written to all


def test_it_can_be_in_the_settings_which_are_read_before_apps_are_loaded() -> None:
    program = (
        "import logging, django\n"
        "from django.conf import settings\n"
        "settings.configure(\n"
        "    INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'django_bridge'],\n"
        "    NOTIFIER={'TRANSPORT': 'memory'}, DEFAULT_AUTO_FIELD='django.db.models.BigAutoField',\n"
        "    LOGGING={'version': 1, 'root': {'handlers': ['people']}, 'handlers': {'people':\n"
        "        {'class': 'django_bridge.log.NotifierHandler', 'level': 'ERROR', 'to': 'group:oncall'}}},\n"
        ")\n"
        "django.setup()\n"
        "from django_bridge.testing import outbox\n"
        "logging.getLogger('shop').error('stuck'); logging.getLogger().handlers[0].flush()\n"
        "assert [message['subject'] for message in outbox.messages] == ['ERROR: stuck']\n"
    )
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


def test_a_request_of_the_record_is_shown_without_an_exception(boss: User) -> None:
    handler = attach()
    ours.error("no request", extra={"request": RequestFactory().post("/pay/")})
    handler.flush()
    assert "POST /pay/" in outbox.messages[0]["text"]
