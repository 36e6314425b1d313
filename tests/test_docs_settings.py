"""docs/settings.md has the variables, defaults, bounds and descriptions of the code, in the same order."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest

from notifier.cli import main
from notifier.settings import SECRETS, Settings
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "settings.md").read_text("utf-8")


def tables() -> list[list[tuple[str, ...]]]:
    """The page's tables, each as its rows below the head."""
    tables: list[list[tuple[str, ...]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        lines = [tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in block.splitlines()]
        tables.append(lines[2:])
    return tables


def row_of(name: str) -> tuple[str, str, str, str]:
    """A setting as the page shows it."""
    field = Settings.model_fields[name]
    return (f"`NOTIFIER_{name.upper()}`", shown(field.default), accepted(field), str(field.description))


def shown(default: Any) -> str:
    if default in ("", ()):
        return "empty"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def accepted(field: Any) -> str:
    if field.annotation is bool:
        return "`true` or `false`"
    if field.annotation not in (int, float):
        return "text"
    bounds = {name: getattr(bound, name) for bound in field.metadata for name in ("ge", "le") if hasattr(bound, name)}
    kind = "a whole number" if field.annotation is int else "a number"
    if "le" in bounds:
        return f"{kind} from {bounds['ge']:g} to {bounds['le']:g}"
    return f"{kind} from {bounds['ge']:g}"


def test_the_page_shows_every_setting_as_it_is_and_no_other() -> None:
    assert tables()[0] == [row_of(name) for name in Settings.model_fields]


def test_the_page_shows_the_variables_that_the_commands_read() -> None:
    options = [option for command in main.commands.values() for option in command.params]
    read = {str(option.envvar) for option in options if isinstance(option, click.Option) and option.envvar}
    assert {row[0].strip("`") for row in tables()[-1]} == read


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_meaning_and_every_number_its_bounds(name: str) -> None:
    field = Settings.model_fields[name]
    assert str(field.description).endswith(".")
    assert "|" not in str(field.description)
    if field.annotation in (int, float):
        assert any(hasattr(bound, "ge") for bound in field.metadata)


def test_no_other_page_names_a_setting_that_is_not_there() -> None:
    known = {row[0].strip("`") for table in tables() for row in table}
    known |= {f"NOTIFIER_{name.upper()}_FILE" for name in SECRETS}
    known |= {"NOTIFIER_SEED", "NOTIFIER_FAULTS"}  # variables of the tests: repeat a run of tests/faults
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    for page in pages:
        for name in re.findall(r"\bNOTIFIER_[A-Z][A-Z_]*[A-Z]\b", page.read_text("utf-8")):
            assert name in known, f"{page.name} names {name}"
