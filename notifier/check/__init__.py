"""What `notifier check-broker` says: which promises of docs/reliability.md the settings of a broker's server weaken.

Must not know: how a broker stores or announces, how the answer is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from notifier.broker import registry
from notifier.check.result import OK, UNKNOWN, WEAKENS, CannotAsk, Result
from notifier.check.sqlite import check_file

if TYPE_CHECKING:
    from notifier.settings import Settings

__all__ = ["OK", "UNKNOWN", "WEAKENS", "CannotAsk", "Result", "check_broker"]


def check_broker(settings: Settings) -> Iterator[Result]:
    """Every check of the broker that the settings name, as soon as it is made.

    Raises `ConfigurationError` for an address that the service refuses, `CannotAsk` where no server answers.
    """
    registry.backend_of(settings)
    match registry.scheme_of(settings):
        case "memory":
            yield Result(
                "memory:",
                "persistence",
                WEAKENS,
                "a restart forgets history, read marks and tasks; clients get a reset",
                "set NOTIFIER_DATA_DIR, or an address with sqlite:// or redis://",
            )
        case "sqlite":
            yield from check_file(settings)
        case _:
            # redis-py, which the embedded brokers do without.
            from notifier.check.redis import check_servers

            yield from check_servers(settings)
