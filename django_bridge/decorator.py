"""`@progress`: a function whose run is a task.

Must not know: how a task reports.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar, cast

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from django_bridge.cancel import TaskCancelled
from django_bridge.task import Task
from django_bridge.task_context import fail_quietly

P = ParamSpec("P")
R = TypeVar("R")

BEGIN_TEXT: Final = _("Started")
END_TEXT: Final = _("Finished")
CANCELLED_TEXT: Final = _("Cancelled")


def progress(
    task_name: Any,
    begin: Any = BEGIN_TEXT,
    end: Any = END_TEXT,
    *,
    cancelled: Any = CANCELLED_TEXT,
    raise_cancelled: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Announces the begin and the end of each call of a function as a task of the user of its request.

        @progress("Walk through a model")
        def test_model(request, model, task=None):
            for i in Progress(model.objects.all(), parts=5, task=task):
                time.sleep(0.03)

    The function gets its `Task` as the keyword argument `task`. The user is that of the argument `request`, or of the
    first argument that has a `user`. An exception fails the task with that error and goes on. A caller that gives a
    `task` of its own gets no new one: the function then reports to that. Works on methods and on `async def` too.

    A user's cancel ends the task with the text `cancelled`, and the call returns None, or an empty answer (204) where
    one of its arguments is an `HttpRequest`; with `raise_cancelled` the `TaskCancelled` goes on instead.

    Raises `TypeError` where the function takes no `task`, and at a call where no argument has a `user`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        if not _takes_task(signature):
            raise TypeError(f"{function.__qualname__} must take the keyword argument 'task'")

        def new_task(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Task | None:
            if signature.bind_partial(*args, **kwargs).arguments.get("task") is not None or kwargs.get("task"):
                return None
            task = Task(from_user=_user(signature, args, kwargs), task_name=task_name)
            task.cancelled_text = cancelled
            return task

        def is_return(fault: BaseException, task: Task) -> bool:
            return isinstance(fault, TaskCancelled) and fault.task_id == task.id and not raise_cancelled

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            task = new_task(args, kwargs)
            if task is None:
                return function(*args, **kwargs)
            task.begin(state=begin)
            try:
                answer = function(*args, **{**kwargs, "task": task})
            except BaseException as fault:
                fail_quietly(task, fault)
                if is_return(fault, task):
                    return _nothing(args, kwargs)
                raise
            if not task.ended:
                task.end(state=end)
            return answer

        @functools.wraps(function)
        async def arun(*args: Any, **kwargs: Any) -> Any:
            task = await sync_to_async(new_task)(args, kwargs)
            function_of = cast(Callable[..., Any], function)
            if task is None:
                return await function_of(*args, **kwargs)
            await sync_to_async(task.begin)(state=begin)
            try:
                answer = await function_of(*args, **{**kwargs, "task": task})
            except BaseException as fault:
                await sync_to_async(fail_quietly)(task, fault)
                if is_return(fault, task):
                    return _nothing(args, kwargs)
                raise
            if not task.ended:
                await sync_to_async(task.end)(state=end)
            return answer

        return cast(Callable[P, R], arun if inspect.iscoroutinefunction(function) else run)

    return decorate


def _takes_task(signature: inspect.Signature) -> bool:
    found = signature.parameters.get("task")
    if found is not None:
        return found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _user(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    named = signature.bind_partial(*args, **kwargs).arguments.get("request")
    for argument in (named, *args, *kwargs.values()):
        user = getattr(argument, "user", None)
        if user is not None:
            return user
    raise TypeError("@progress takes the user from the request, and no argument has a `user`")


def _nothing(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> HttpResponse | None:
    """What a cancelled call returns: a view must answer."""
    if any(isinstance(argument, HttpRequest) for argument in (*args, *kwargs.values())):
        return HttpResponse(status=204)
    return None
