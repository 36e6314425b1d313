"""The user whose task a job is, and the name of that task: from the job's arguments, or from the current request.

Must not know: queues, tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.http import HttpRequest

from django_bridge.recipients import is_anonymous


class _Search(Enum):
    SEARCH = "search"


SEARCH: Final = _Search.SEARCH
"""The owner is the first argument that is a user, else the argument `user` or `user_id`, else the user of the request
that adds the job to the queue."""

User = str | Callable[..., Any] | _Search | None
"""How the owner is known: the name of an argument, a function of the job's arguments, `SEARCH`; None: not reported."""

_REQUEST: Final[ContextVar[HttpRequest | None]] = ContextVar("notifier_request", default=None)


@contextmanager
def during(request: HttpRequest) -> Iterator[None]:
    """A block whose jobs belong to the user of this request, where no argument names another."""
    token = _REQUEST.set(request)
    try:
        yield
    finally:
        _REQUEST.reset(token)


def owner_of(user: User, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The owner, as itself or as its key; None: the job has none. Raises what the function `user` raises."""
    if user is None:
        return None
    if isinstance(user, str):
        return arguments(function, args, kwargs).get(user)
    if not isinstance(user, _Search):
        return user(*args, **kwargs)
    named = arguments(function, args, kwargs)
    model = get_user_model()
    for value in named.values():
        if isinstance(value, model):
            return value
    key = named.get("user", named.get("user_id"))
    return _user_of_request() if key is None or is_anonymous(key) else key


def arguments(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments by name, defaults included; only `kwargs` where they do not fit the function."""
    try:
        bound = inspect.signature(function).bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return dict(kwargs)
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def _user_of_request() -> Any:
    user = getattr(_REQUEST.get(), "user", None)
    return None if is_anonymous(user) else user
