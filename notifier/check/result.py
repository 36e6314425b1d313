"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["ok", "weakens", "unknown", "skipped"]
OK: Final = "ok"
WEAKENS: Final = "weakens"
UNKNOWN: Final = "unknown"
SKIPPED: Final = "skipped"
"""Not asked for: by the options, or after an earlier result."""


class CannotAsk(Exception):
    """No server answers, or it refuses the login."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check of one server."""

    server: str
    """Its address, without credentials."""
    name: str
    verdict: Verdict
    seen: str
    """What was seen, and the promise that it weakens."""
    fix: str = ""
