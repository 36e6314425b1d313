"""A message's fields are listed once, in `notifier.message`; here is checked what cannot be derived from it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

from notifier.api.answers import InboxMessage, MessageData
from notifier.api.bodies import MessageIn
from notifier.message import BY_NAME, FIELDS, REQUIRED, message_event, message_of
from notifier.rules import ICONS
from tests.support import REPOSITORY

CARRIED = {field.name for field in FIELDS if field.carries is not None}
ACTIONS = [{"text": "Show", "url": "/orders/7/"}]
ADDED = {"replaces", "edited"}
"""Fields that the service adds."""
ARGUMENTS = {"to": "to_users", "from": "from_user", "sent_at": "send_datetime"}
"""The arguments of the bridge's `Message` that have another name than the field."""


def test_the_frame_carries_the_fields_that_the_list_says() -> None:
    event = message_event({"to": ["user:7"], "subject": "Paid", "icon": "cart", "key": "order", "actions": ACTIONS})
    message = message_of(event.frame_for("user:7"))
    assert message is not None
    assert set(message) == CARRIED


def test_the_api_takes_and_shows_the_fields_that_the_list_says() -> None:
    assert set(MessageIn.model_fields) == {*BY_NAME, "excluded", "except_connection"}
    assert set(MessageData.model_fields) == {*CARRIED, *ADDED}
    assert set(InboxMessage.model_fields) == {*CARRIED, *ADDED, "read"}
    assert {name for name, field in MessageIn.model_fields.items() if field.is_required()} == {
        field.name for field in FIELDS if field.default is REQUIRED
    }


def test_the_clients_type_has_the_fields_that_the_stream_carries() -> None:
    source = (REPOSITORY / "client" / "types.js").read_text("utf-8")
    comments = re.findall(r"/\*\*(.*?)\*/", source, re.DOTALL)
    (block,) = (comment for comment in comments if "{object} Message\n" in comment)
    properties = re.findall(r"@property \{.*?\} \[?(\w+)\]?", block)
    assert set(properties) == {*CARRIED, *ADDED, "read"}


def test_the_client_has_a_picture_for_each_name_of_an_icon() -> None:
    assert sorted(path.stem for path in (REPOSITORY / "client" / "icons").iterdir()) == sorted(ICONS)


def test_the_bridges_message_takes_every_field() -> None:
    code = """
import django, inspect
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bridge"])
django.setup()
from django_bridge import Message
print(*inspect.signature(Message).parameters)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # The id is the bridge's to choose.
    assert set(done.stdout.split()) == {ARGUMENTS.get(name, name) for name in BY_NAME if name != "id"}


@pytest.mark.parametrize("field", [field for field in FIELDS if field.option], ids=lambda field: field.name)
def test_the_command_has_an_option_for_each_field_that_a_shell_can_give(field: object) -> None:
    from notifier.cli import send

    options = {option.name: option for option in send.params}
    name, option = field.name, field.option  # type: ignore[attr-defined]  # a Field
    assert f"--{option}" in options[name].opts
    assert options[name].required == (BY_NAME[name].default is REQUIRED)


def test_every_field_says_what_it_is() -> None:
    for field in FIELDS:
        assert field.description.endswith("."), field.name
        assert len(inspect.signature(field.check).parameters) >= 2, field.name
