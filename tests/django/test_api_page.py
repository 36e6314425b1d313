"""docs/api.md: its imports work, and it has every public name."""

from __future__ import annotations

import ast
import re
from types import ModuleType

import pytest

import django_bridge
import django_bridge.testing
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "api.md").read_text("utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHOWN = re.findall(r"^::: ([\w.]+)$", PAGE, re.MULTILINE)


def imported(code: str) -> set[str]:
    """The names that an example imports."""
    return {alias.name for node in ast.parse(code).body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("code", CODE, ids=lambda code: code.split()[1])
def test_the_imports_of_the_page_work(code: str) -> None:
    names: dict[str, object] = {}
    exec(compile(code, "docs/api.md", "exec"), names)
    assert imported(code) <= set(names)


@pytest.mark.parametrize("package", [django_bridge, django_bridge.testing], ids=lambda package: package.__name__)
def test_the_page_has_every_public_name(package: ModuleType) -> None:
    (code,) = [code for code in CODE if code.startswith(f"from {package.__name__} import")]
    assert imported(code) == set(package.__all__)


def test_the_page_shows_no_method_of_a_task_that_is_for_its_base_classes() -> None:
    public = [name for name in dir(django_bridge.Task) if not name.startswith("_")]
    assert [name for name in public if (getattr(django_bridge.Task, name).__doc__ or "").startswith("For `")] == []


def test_every_name_that_the_page_imports_is_shown() -> None:
    names = set().union(*map(imported, CODE)) - {"InvalidInput"}  # shown with its module
    assert names <= {name.rpartition(".")[2] for name in SHOWN}
