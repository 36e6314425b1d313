"""`@progress`: a function whose run is a task.

Must not know: how a task reports.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar, cast, overload

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from django_bridge.languages import speaking
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.context import fail_quietly
from django_bridge.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")

BEGIN_TEXT: Final = _("Started")
END_TEXT: Final = _("Finished")
CANCELLED_TEXT: Final = _("Cancelled")


@overload
def progress(task_name: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def progress(
    task_name: str | Promise | None = None,
    begin: Any = BEGIN_TEXT,
    end: Any = END_TEXT,
    *,
    user: str | Callable[..., Any] | None = None,
    cancelled: Any = CANCELLED_TEXT,
    raise_cancelled: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def progress(
    task_name: Any = None,
    begin: Any = BEGIN_TEXT,
    end: Any = END_TEXT,
    *,
    user: str | Callable[..., Any] | None = None,
    cancelled: Any = CANCELLED_TEXT,
    raise_cancelled: bool = False,
) -> Any:
    """Announces the begin and the end of each call of a function as a task of the user of its request.

        @progress("Walk through a model")
        def test_model(request, model, task=None):
            for i in Progress(model.objects.all(), parts=5, task=task):
                time.sleep(0.03)

    The function gets its `Task` as the keyword argument `task`. Without arguments (`@progress`) the task is named after
    the function. Texts may use the call's arguments: `@progress("Import of {path}")`.

    The user is that of the argument `request`, or of the first argument that has a `user`. Where there is no request,
    `user` names the argument that is the user or its key, or is a function that finds it from the call's arguments.

    An exception fails the task with that error and goes on. A caller that gives a `task` of its own gets no new one:
    the function then reports to that. Works on methods and on `async def` too.

    A user's cancel ends the task with the text `cancelled`, and the call returns None, or an empty answer (204) where
    one of its arguments is an `HttpRequest`; with `raise_cancelled` the `TaskCancelled` goes on instead.

    Raises `TypeError` where the function takes no `task`, and at a call that names no user, or that lacks an argument
    which a text uses.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        if not _takes_task(signature):
            raise TypeError(f"{function.__qualname__} must take the keyword argument 'task'")
        name = function.__name__.strip("_").replace("_", " ").capitalize() if task_name is None else task_name

        def new_task(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Task | None:
            given = _arguments(signature, args, kwargs)
            if given.get("task") is not None:
                return None
            found = _user(given, args, kwargs) if user is None else _named_user(user, given, args, kwargs)
            with speaking(found):
                task = Task(from_user=found, task_name=_text(name, given))
                task.cancelled_text = _text(cancelled, given)
            return task

        def text(task: Task, template: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
            with task.speaking():
                return _text(template, _arguments(signature, args, kwargs))

        def is_return(exc: BaseException, task: Task) -> bool:
            return isinstance(exc, TaskCancelled) and exc.task_id == task.id and not raise_cancelled

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            task = new_task(args, kwargs)
            if task is None:
                return function(*args, **kwargs)
            task.begin(state=text(task, begin, args, kwargs))
            task.works_here()
            try:
                answer = function(*args, **{**kwargs, "task": task})
            except BaseException as exc:
                fail_quietly(task, exc)
                if is_return(exc, task):
                    return _nothing(args, kwargs)
                raise
            if not task.ended:
                task.end(state=text(task, end, args, kwargs))
            return answer

        @functools.wraps(function)
        async def arun(*args: Any, **kwargs: Any) -> Any:
            task = await sync_to_async(new_task)(args, kwargs)
            function_of = cast(Callable[..., Any], function)
            if task is None:
                return await function_of(*args, **kwargs)
            await sync_to_async(lambda: task.begin(state=text(task, begin, args, kwargs)))()
            task.works_here()
            try:
                answer = await function_of(*args, **{**kwargs, "task": task})
            except BaseException as exc:
                await sync_to_async(fail_quietly)(task, exc)
                if is_return(exc, task):
                    return _nothing(args, kwargs)
                raise
            if not task.ended:
                await sync_to_async(lambda: task.end(state=text(task, end, args, kwargs)))()
            return answer

        return cast(Callable[P, R], arun if inspect.iscoroutinefunction(function) else run)

    if inspect.isroutine(task_name):
        function, task_name = task_name, None
        return decorate(function)
    return decorate


def _takes_task(signature: inspect.Signature) -> bool:
    found = signature.parameters.get("task")
    if found is not None:
        return found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _arguments(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What the call gives, by name, with the defaults."""
    bound = signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    return {**bound.arguments, **kwargs}


def _user(given: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    for argument in (given.get("request"), *args, *kwargs.values()):
        user = getattr(argument, "user", None)
        if user is not None:
            return user
    raise TypeError("@progress takes the user from the request, and no argument has a `user`; see its argument `user`")


def _named_user(
    user: str | Callable[..., Any], given: Mapping[str, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    found = given.get(user) if isinstance(user, str) else user(*args, **kwargs)
    if found is None:
        raise TypeError(f"@progress found no user: {user!r} is None, or not among the arguments")
    return found


def _text(template: Any, given: Mapping[str, Any]) -> str:
    text = str(template)
    if "{" not in text:
        return text
    try:
        return text.format_map(given)
    except (KeyError, IndexError, ValueError, AttributeError) as exc:
        raise TypeError(f"the text {text!r} does not fit the call's arguments: {exc!r}") from None


def _nothing(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> HttpResponse | None:
    """What a cancelled call returns: a view must answer."""
    if any(isinstance(argument, HttpRequest) for argument in (*args, *kwargs.values())):
        return HttpResponse(status=204)
    return None
