"""What `notifier doctor` says: whether streams, events and calls pass the public address as a browser needs them.

It publishes three events for one user and reads that user's streams. Must not know: how the answer is printed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from notifier.check.result import OK, SKIPPED, UNKNOWN, WEAKENS, CannotAsk, Result
from notifier.doctor.address import check_address, date_clock
from notifier.doctor.public import Public, Target
from notifier.doctor.stream import check_stream

if TYPE_CHECKING:
    from notifier.settings import Settings

__all__ = ["OK", "SKIPPED", "UNKNOWN", "WEAKENS", "CannotAsk", "Result", "Target", "diagnose"]


def diagnose(target: Target, settings: Settings, *, long: bool = False) -> Iterator[Result]:
    """Every check, as soon as it is made. `long`: the quiet stream is watched for minutes instead of one heartbeat.

    Raises `CannotAsk` where nothing answers at the address, `ConfigurationError` for a bad broker address.
    """
    with contextlib.closing(Public(target)) as public:
        passed = True
        for result in check_address(public):
            passed &= result.name not in ("token", "publish") or result.verdict == OK
            yield result
        if passed:
            yield from check_stream(public, long=long)
        else:
            yield from date_clock(public)
            yield public.result("stream", SKIPPED, "not read, since the token or the key is refused")
    yield from _check_broker(settings)


def _check_broker(settings: Settings) -> Iterator[Result]:
    if not settings.model_fields_set & {"broker_url", "redis_url", "data_dir"}:
        fix = "repeat with NOTIFIER_BROKER_URL, or run `notifier check-broker` beside the service"
        yield Result("broker", "broker", SKIPPED, "no broker address is set here", fix)
        return
    from notifier.check import check_broker

    for result in check_broker(settings):
        seen = f"{result.server.removesuffix(':')}: {result.seen}"
        yield Result(result.server, f"broker-{result.name}", result.verdict, seen, result.fix)
