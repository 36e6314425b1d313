"""The JSON Schemas of a stream's events, by which the tests check every event that they receive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker

from tests.support import REPOSITORY

FOLDER: Final = REPOSITORY / "notifier" / "schemas"


@cache
def validators() -> Mapping[str, Draft202012Validator]:
    """A validator for each event of a stream, by name."""
    formats = FormatChecker(())
    formats.checks("date-time", raises=ValueError)(_is_moment)
    schemas = {path.name.removesuffix(".json"): json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
    return {name: Draft202012Validator(schema, format_checker=formats) for name, schema in schemas.items()}


def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def check_event(name: str, data: Any) -> None:
    """Raises `ValidationError` if an event of a stream is not as its schema says. Events of publishers have none."""
    if (validator := validators().get(name)) is not None:
        validator.validate(data)
