"""A run as a table or as JSON, its progress on a terminal, and the exit code.

Must not know: how it is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from notifier import address
from notifier.check.result import CannotAsk
from notifier.credentials import signed
from notifier.errors import ConfigurationError
from notifier.load.measure import Progress, Result, ask, measure, raise_file_limit
from notifier.load.plan import NAME, Plan

if TYPE_CHECKING:
    from notifier.settings import Settings

__all__ = ["CannotAsk", "planned", "run"]

WIDTH: Final = 30


def planned(
    settings: Settings, key: str, *, url: str, streams: int, events_per_s: float, seconds: float, users: int | None,
    to: Literal["user", "group"],
) -> Plan:  # fmt: skip
    """The plan, with a token for each user. Raises `ConfigurationError`."""
    if not settings.jwt_secret:
        raise ConfigurationError("NOTIFIER_JWT_SECRET must be set: each stream has a token")
    claims = {"groups": [NAME]} if to == "group" else {}
    # The streams outlive the run, also where they open again.
    ttl_s = int(seconds) + 600
    names = [f"{NAME}-{number}" for number in range(min(users or streams, streams))]
    tokens = tuple(signed(settings, name, ttl_s=ttl_s, **claims) for name in names)
    return Plan(address.checked(url), key, tokens, streams, events_per_s, seconds, to)


def run(plan: Plan, *, as_json: bool) -> int:
    """Measure and print. Returns the exit code: 0 all delivered, 1 not. Raises `CannotAsk`."""
    raise_file_limit(plan.streams)
    try:
        ask(plan)
        with _bar() as progress:
            result = asyncio.run(measure(plan, progress))
    except KeyboardInterrupt:  # before the run takes the signal, or the second one
        raise CannotAsk("interrupted without a result") from None
    click.echo(json.dumps(result.members()) if as_json else "\n".join(_lines(result)))
    return 0 if result.ok else 1


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda what, part: None
        return

    def show(what: str, part: float) -> None:
        full = round(WIDTH * part)
        click.echo(f"\r{what:<10} [{'#' * full}{'-' * (WIDTH - full)}] {part:4.0%}", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _lines(result: Result) -> Iterator[str]:
    streams, events, deliveries, program = result.streams, result.events, result.deliveries, result.program
    note = ", interrupted" if result.interrupted else ""
    yield f"{result.url}: {'ok' if result.ok else 'NOT OK'}{note}"
    yield _row("streams", f"{streams['opened']} of {streams['asked']} open, {streams['users']} users")
    yield from _reasons("  refused", streams["refused"])
    yield from _reasons("  ended, and opened again", streams["ended"])
    yield _row(
        "events", f"{events['accepted']} of {events['planned']} in {result.seconds:g} s, {events['per_s']:g} a second"
    )
    yield from _reasons("  refused", events["refused"])
    yield from _reasons("  repeated", events["repeated"])
    yield _row("deliveries", f"{deliveries['delivered']} of {deliveries['expected']}")
    yield _row(
        "",
        f"lost {deliveries['lost']}, duplicates {deliveries['duplicates']}, out of order {deliveries['out_of_order']}",
    )
    yield _row(
        "latency ms",
        "  ".join(f"{name} {'-' if ms is None else format(ms, 'g')}" for name, ms in result.latency_ms.items()),
    )
    yield _row("program", f"{program['cpu']:.0%} of a processor, at most {program['behind_ms']:g} ms late")
    for hint in result.hints:
        yield _row("", hint)
    if result.remains:
        yield _row("remains", result.remains)


def _row(name: str, text: str) -> str:
    return f"{name:<12}{text}"


def _reasons(name: str, counts: Mapping[str, Any]) -> Iterator[str]:
    if counts:
        yield _row("", f"{name.strip()}: " + ", ".join(f"{count} {reason}" for reason, count in counts.items()))
