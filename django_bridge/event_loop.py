"""Synchronous calls from asynchronous code: a function that uses the database leaves a running event loop. And the
reverse: a function of the project that may be asynchronous.

Must not know: what the functions do.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from asgiref.sync import async_to_sync
from django.db import connections

P = ParamSpec("P")
R = TypeVar("R")


def outside_loop(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that uses the database be called from a running event loop, where Django refuses queries.

    There the call runs in a thread of its own, with its own database connection, and the loop waits for it; elsewhere
    it runs as it is. With `DJANGO_ALLOW_ASYNC_UNSAFE` Django refuses nothing, and the call stays in its thread.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if asyncio._get_running_loop() is None or os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
            return function(*args, **kwargs)

        def call_and_close() -> R:
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1, "notifier-outside-loop") as executor:
            return executor.submit(copy_context().run, call_and_close).result()

    return call


def answer_of(function: Callable[P, R | Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """The answer of a function of the project, which may be `async def`: as an object, a coroutine would be true."""
    answer = function(*args, **kwargs)
    return async_to_sync(_result)(answer) if inspect.isawaitable(answer) else answer


async def _result(answer: Awaitable[R]) -> R:
    return await answer
