"""What a `Progress` is given, checked: numbers, callbacks, QuerySets.

Must not know: passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.db.models import QuerySet

if TYPE_CHECKING:
    from django_bridge.loop.progress import Progress

CHUNK: Final = 2000
"""A QuerySet with more rows than this is read in chunks of this many, and does not fill its result cache."""


def in_chunks(rows: QuerySet[Any], total: int) -> bool:
    """Whether to bypass the result cache: for many rows that are neither there already nor to be prefetched for."""
    return total > CHUNK and rows._result_cache is None and not rows._prefetch_related_lookups  # type: ignore[attr-defined]  # the stubs lack it


def whole(value: object, name: str, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    return value


def one_argument(callback: Callable[..., Any]) -> Callable[[Progress[Any]], Any]:
    """The callback as one that takes the `Progress`, whether it wants it or not."""
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback).__name__}")
    try:
        signature = inspect.signature(callback)
    except ValueError:  # some builtins have none
        return callback
    try:
        signature.bind(None)
    except TypeError:
        signature.bind()  # raises TypeError for a callback that wants more than one
        return lambda _: callback()
    return callback
