"""A project with a custom user model: UUID keys, a mail address as the user name, no groups, custom ids."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import REPOSITORY


@pytest.fixture(scope="module")
def sent() -> Any:
    """The output of tests/django/people/walk.py."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.django.people.walk"],
        cwd=REPOSITORY,
        env={"DJANGO_SETTINGS_MODULE": "tests.django.people.settings", "PATH": ""},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    return json.loads(process.stdout)


def test_users_are_recipients_as_objects_keys_and_querysets(sent: Any) -> None:
    ann, both = [f"user:{sent['ann']}"], sorted([f"user:{sent['ann']}", f"user:{sent['bob']}"])
    assert {form: sorted(to) for form, to in sent["to"].items()} == {
        "user": ann,
        "key": ann,
        "text": ann,
        "hex": ann,
        "rows": both,
    }
    assert sent["created with text"]
    assert sent["from"] == {"id": sent["bob"], "name": "bob@example.org"}


def test_users_get_their_languages(sent: Any) -> None:
    assert sent["by subject"] == {"Ja": [f"user:{sent['ann']}"], "Да": [f"user:{sent['bob']}"]}


def test_tasks_belong_to_users(sent: Any) -> None:
    assert sent["task"] == [True, [f"user:{sent['ann']}"], "succeeded"]
    assert sent["token"] == [sent["ann"], []]


def test_keys_and_tasks_are_accepted_wherever_a_user_or_a_task_id_is(sent: Any) -> None:
    assert sent["resumed"] == [True] * 3
    assert sent["pickled"]
    both = [f"user:{sent['ann']}", f"user:{sent['bob']}"]
    assert sent["events"] == [*[both[:1]] * 4, both]
    assert sent["history"] == [True] * 6
    assert sent["decorated"]


def test_user_ids_on_the_wire_can_be_customized(sent: Any) -> None:
    ann, bob = "user:ann@example.org", "user:bob@example.org"
    assert [sorted(to) for to in sent["own"]] == [[ann], [ann], [ann, bob]]


def test_a_superuser_without_the_field_is_active_gets_errors_of_the_log(sent: Any) -> None:
    assert sent["log"] == [[f"user:{sent['ann']}"]]
