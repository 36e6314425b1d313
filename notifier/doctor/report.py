"""The checks as lines or as JSON, and the exit code.

Must not know: how a check is made.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click
import jwt

from notifier import address
from notifier.check.result import OK, UNKNOWN, WEAKENS, CannotAsk, Result
from notifier.doctor import Target, diagnose

if TYPE_CHECKING:
    from notifier.settings import Settings

__all__ = ["CannotAsk", "run", "target"]

INDENT: Final = " " * 9


def target(url: str, token: str, key: str, origin: str) -> Target:
    """Raises `ConfigurationError` for an address, `CannotAsk` for a token that cannot be read."""
    url = address.checked(url)
    try:
        # The service verifies the token; here only its user is of interest.
        user = jwt.decode(token, options={"verify_signature": False})["sub"]
    except (jwt.InvalidTokenError, KeyError) as exc:
        raise CannotAsk(f"the token has no user: {exc}") from None
    return Target(url, token, user, key, origin)


def run(target: Target, settings: Settings, *, long: bool, as_json: bool) -> int:
    """Make and print every check. Returns the exit code. Raises `CannotAsk`, `ConfigurationError`."""
    results = []
    for result in diagnose(target, settings, long=long):
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    verdicts = {result.verdict for result in results}
    code = 1 if WEAKENS in verdicts else 2 if UNKNOWN in verdicts else 0
    if as_json:
        click.echo(json.dumps({"url": target.url, "ok": code == 0, "checks": [_member(result) for result in results]}))
    return code


def _line(result: Result) -> str:
    shown = result.fix.splitlines() if result.verdict != OK else []
    return "\n".join((f"{result.verdict:<8} {result.name}: {result.seen}", *(f"{INDENT}{line}" for line in shown)))


def _member(result: Result) -> dict[str, object]:
    return {"name": result.name, "verdict": result.verdict, "seen": result.seen, "fix": result.fix.splitlines()}
