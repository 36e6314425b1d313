"""Runs the examples of docs/django.md that are settings; and shows that every example is run."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_bridge import Message, Task, conf_rules, policy
from django_bridge.testing import outbox
from tests.django.examples import CODE, PAGE, run


def test_the_settings_are_valid() -> None:
    settings = run("NOTIFIER = {")["NOTIFIER"]
    settings["API_KEY"] = "a-key-of-16-chars"
    assert conf_rules.problems({**settings, "JWT_SECRET": "x" * 32}) == []


def test_the_policy_lets_pages_connect() -> None:
    with override_settings(**run("SECURE_CSP = ")):
        assert policy.allows(policy.connect_sources() or (), "https://notifier.example.org")


def test_the_table_of_settings_has_the_keys_of_the_code() -> None:
    table = PAGE[PAGE.index("| key | default |") : PAGE.index("The transport `redis` needs")].strip()
    keys = {key for row in table.splitlines()[2:] for key in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert keys == set(conf_rules.RULES)


def test_languages(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("def language_of(user):")
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.users", types.SimpleNamespace(language_of=names["language_of"]))  # type: ignore[arg-type]
    monkeypatch.setattr(User, "profile", types.SimpleNamespace(language="de"), raising=False)
    with override_settings(NOTIFIER={"TRANSPORT": "memory", **names["NOTIFIER"]}):
        Message(to_users=user.pk, subject=gettext_lazy("Yes")).send()
    assert outbox.messages[0]["subject"] == "Ja"


def test_events_for_scripts(user: User) -> None:
    run("from django_bridge import Event", order=types.SimpleNamespace(pk=7, sum=12, buyer=user))
    assert outbox.events == [{"to": [f"user:{user.pk}"], "type": "order.paid", "data": {"order": 7, "sum": 12}}]


def test_errors_of_a_task(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("def error_text(exc):", ValidationError=ValidationError)
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.errors", types.SimpleNamespace(error_text=names["error_text"]))  # type: ignore[arg-type]
    with override_settings(NOTIFIER={"TRANSPORT": "memory", **names["NOTIFIER"]}):
        for exc, shown in ((ValidationError("No rows"), "No rows"), (KeyError("x"), "Something went wrong.")):
            Task(from_user=user, task_name="Import").fail(exc)
            assert outbox.task_updates[-1]["error"] == shown


def test_every_example_is_run() -> None:
    sources = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    starts = [start for source in sources for _, start in re.findall(r"""\brun\(\s*(["'])(.+?)\1[,)]""", source)]
    assert [first for first in CODE if not first.startswith(tuple(starts))] == []
