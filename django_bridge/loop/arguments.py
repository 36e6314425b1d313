"""Checks of the arguments of a `Progress`: numbers, callbacks, QuerySets.

Must not know: passes.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any, Final

from django.db.models import QuerySet

CHUNK: Final = 2000
"""A QuerySet with more rows than this is read in chunks of this size, without filling its result cache."""


def in_chunks(rows: QuerySet[Any], total: int) -> bool:
    """Whether to bypass the result cache: for many rows that are neither fetched yet nor the base of a prefetch."""
    return total > CHUNK and rows._result_cache is None and not rows._prefetch_related_lookups  # type: ignore[attr-defined]  # the stubs lack it


IN_MEMORY: Final = (list, tuple, range, str, bytes, dict, set, frozenset, deque, KeysView, ValuesView, ItemsView)
"""Types whose items need neither a query nor a wait."""


def is_in_memory(iterable: object) -> bool:
    """Whether the items can be read in a running event loop: neither a query nor a wait lies behind them."""
    return isinstance(iterable, IN_MEMORY)


def whole(value: object, name: str, *, least: int) -> int:
    """The value, if it is an int from `least`. Raises `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, not {value!r}")
    return value


def one_argument(callback: Callable[..., Any]) -> Callable[[Any], Any]:
    """The callback as a function of one argument, the `Progress`, which a callback without parameters does not get.

    Raises `TypeError` for a callback that needs more than one argument, and for what is not callable.
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback).__name__}")
    try:
        signature = inspect.signature(callback)
    except ValueError:  # some builtins have none
        return callback
    try:
        signature.bind(None)
    except TypeError:
        signature.bind()
        return lambda _: callback()
    return callback
