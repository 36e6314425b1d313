"""A project with a user model of its own: UUID keys, a mail address as the user name, no groups, ids of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import REPOSITORY


@pytest.fixture(scope="module")
def found() -> Any:
    """What the project in tests/django/people sent."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.django.people.walk"],
        cwd=REPOSITORY,
        env={"DJANGO_SETTINGS_MODULE": "tests.django.people.settings", "PATH": ""},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_its_users_are_reached_as_themselves_by_key_and_by_rows(found: Any) -> None:
    ann, both = [f"user:{found['ann']}"], sorted([f"user:{found['ann']}", f"user:{found['bob']}"])
    assert {form: sorted(to) for form, to in found["to"].items()} == {
        "user": ann,
        "key": ann,
        "text": ann,
        "hex": ann,
        "rows": both,
    }
    assert found["from"] == {"id": found["bob"], "name": "bob@example.org"}


def test_its_users_read_their_languages(found: Any) -> None:
    assert found["said"] == {"Ja": [f"user:{found['ann']}"], "Да": [f"user:{found['bob']}"]}


def test_its_tasks_belong_to_its_users(found: Any) -> None:
    assert found["task"] == [True, [f"user:{found['ann']}"], "succeeded"]
    assert found["token"] == [found["ann"], []]


def test_its_ids_on_the_wire_may_be_its_own(found: Any) -> None:
    ann, bob = "user:ann@example.org", "user:bob@example.org"
    assert [sorted(to) for to in found["own"]] == [[ann], [ann], [ann, bob]]
