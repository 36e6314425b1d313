"""The examples of docs/django.md, and a function that runs one of them."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import User

from django_bridge import Message
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "django.md").read_text("utf-8")
CODE: dict[str, str] = dict(
    reversed([(code.strip().splitlines()[0], code) for code in re.findall(r"```python\n(.*?)```", PAGE, re.S)])
)
"""The examples by their first line."""


def run(starts: str, **names: Any) -> dict[str, Any]:
    """Run the one example whose first line starts with `starts`. Returns the names that it defines."""
    (first,) = [line for line in CODE if line.startswith(starts)]
    exec(compile(CODE[first], "docs/django.md", "exec"), names)
    return names


def by_name(*functions: Any) -> dict[str, Any]:
    return {function.__name__: function for function in functions}


def shop(user: User) -> dict[str, Any]:
    """The functions that the tests in the examples test."""

    def pay(order: str) -> None:
        Message(to_users=user, subject="Paid", text=f"{order}: 12.50").send()

    return {"pay": pay, "save_draft": str, "order": "7", "buyer": user}
