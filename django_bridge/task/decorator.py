"""`@progress`: a function each call of which is a task.

Must not know: how a task reports.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from django_bridge.languages import speaking
from django_bridge.loop.current import working_on
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.context import fail_quietly
from django_bridge.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")
_Args = tuple[Any, ...]
_Kwargs = Mapping[str, Any]

BEGIN_TEXT: Final = _("Started")
END_TEXT: Final = _("Finished")
CANCELLED_TEXT: Final = _("Cancelled")
_MARK: Final = "notifier_reports_itself"
OF_REQUEST: Final = "request.user"
"""The user is that of the request. No argument can have this name."""


@overload
def progress(task_name: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def progress(
    task_name: str | Promise | None = None,
    begin: Any = BEGIN_TEXT,
    end: Any = END_TEXT,
    *,
    user: str | Callable[..., Any] | None = OF_REQUEST,
    cancelled: Any = CANCELLED_TEXT,
    raise_cancelled: bool = False,
    result: Callable[[Any], Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def progress(
    task_name: Any = None,
    begin: Any = BEGIN_TEXT,
    end: Any = END_TEXT,
    *,
    user: str | Callable[..., Any] | None = OF_REQUEST,
    cancelled: Any = CANCELLED_TEXT,
    raise_cancelled: bool = False,
    result: Callable[[Any], Any] | None = None,
) -> Any:
    """Run each call of a function as a task of the user of its request.

        @progress("Walk through a model")
        def test_model(request, model, task=None):
            for i in Progress(model.objects.all(), parts=5, task=task):
                time.sleep(0.03)

    The function receives its `Task` as the keyword argument `task`; a `Progress` without a task takes it by itself.
    Without arguments (`@progress`) the task is named after the function. Texts may use the call's arguments:
    `@progress("Import of {path}")`.

    The user is that of the argument `request`, else of the first argument with a `user`. Without a request, `user`
    names the argument that is the user or its key, or is a function that returns it from the call's arguments. With
    `user=None` no user sees the task: a run by cron has its row and nothing else.

    An exception fails the task with that error and propagates. If the caller passes a `task`, no new one begins, and
    the function reports to that one. Works on methods, on `async def`, and above or below Django's `@task`.

    If a user cancels, the task ends with the text `cancelled`, and the call returns None, or an empty response (204) if
    one of its arguments is an `HttpRequest`; with `raise_cancelled`, `TaskCancelled` propagates instead.

    `result` is a function from the returned value to the URL of the result, or to the pair of that URL and the text of
    its button (see `Task.end`), or to None.

    Raises `TypeError` if the function takes no `task`, and at a call that names no user or lacks an argument which a
    text uses.
    """
    is_bare = inspect.isroutine(task_name)
    options = _Options(None if is_bare else task_name, begin, end, user, cancelled, raise_cancelled, result)

    def decorate(function: Any) -> Any:
        if _is_queued(function):
            return dataclasses.replace(function, func=decorate(function.func))
        wrap = _wrap_async if inspect.iscoroutinefunction(function) else _wrap
        wrapped = wrap(_Decorated(function, options))
        setattr(wrapped, _MARK, True)
        return wrapped

    return decorate(task_name) if is_bare else decorate


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments of `@progress`."""

    task_name: Any
    begin: Any
    end: Any
    user: str | Callable[..., Any] | None
    cancelled: Any
    raise_cancelled: bool
    result: Callable[[Any], Any] | None


class _Decorated:
    """A decorated function, and how its calls become tasks. Raises `TypeError` if it takes no `task`."""

    def __init__(self, function: Callable[..., Any], options: _Options) -> None:
        self.function = function
        self._options = options
        self._signature = inspect.signature(function)
        if not takes_task(function):
            raise TypeError(f"{function.__qualname__} must take the keyword argument 'task'")
        self._name = options.task_name
        if self._name is None:
            self._name = name_of(function)

    def new_task(self, args: _Args, kwargs: _Kwargs) -> Task | None:
        """The task of a call, not begun; None if the caller passes one."""
        given = self._arguments(args, kwargs)
        if given.get("task") is not None:
            return None
        user = self._user(given, args, kwargs)
        with speaking(user):
            task = Task(from_user=user, task_name=filled(self._name, given))
            task.cancelled_text = filled(self._options.cancelled, given)
        return task

    def given_task(self, args: _Args, kwargs: _Kwargs) -> Any:
        """The task that the caller passes, or None."""
        return self._arguments(args, kwargs).get("task")

    def begin(self, task: Task, args: _Args, kwargs: _Kwargs) -> None:
        task.begin(state=self._state(task, self._options.begin, args, kwargs))
        task.works_here()

    def end(self, task: Task, answer: Any, args: _Args, kwargs: _Kwargs) -> None:
        if task.ended:
            return
        url, url_text = (None, None) if self._options.result is None else link_of(self._options.result, answer)
        task.end(self._state(task, self._options.end, args, kwargs), url=url, url_text=url_text)

    def is_returned(self, exc: BaseException, task: Task) -> bool:
        """Whether the call returns instead of raising `exc`: a cancel of its own task."""
        return isinstance(exc, TaskCancelled) and exc.task_id == task.id and not self._options.raise_cancelled

    def _state(self, task: Task, template: Any, args: _Args, kwargs: _Kwargs) -> str:
        with task.speaking():
            return filled(template, self._arguments(args, kwargs))

    def _user(self, given: _Kwargs, args: _Args, kwargs: _Kwargs) -> Any:
        user = self._options.user
        from django.contrib.auth.models import AnonymousUser  # too early where a models module imports `progress`

        if user == OF_REQUEST:
            return _user_of_request(given, args, kwargs)
        return AnonymousUser() if user is None else _named_user(user, given, args, kwargs)

    def _arguments(self, args: _Args, kwargs: _Kwargs) -> dict[str, Any]:
        """The call's arguments by name, defaults included."""
        bound = self._signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        return {**bound.arguments, **kwargs}


def _wrap(decorated: _Decorated) -> Callable[..., Any]:
    function = decorated.function

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        task = decorated.new_task(args, kwargs)
        if task is None:
            with working_on(decorated.given_task(args, kwargs)):
                return function(*args, **kwargs)
        decorated.begin(task, args, kwargs)
        try:
            with working_on(task):
                answer = function(*args, **{**kwargs, "task": task})
            decorated.end(task, answer, args, kwargs)
        except BaseException as exc:
            fail_quietly(task, exc)
            if decorated.is_returned(exc, task):
                return _empty_answer(args, kwargs)
            raise
        return answer

    return run


def _wrap_async(decorated: _Decorated) -> Callable[..., Any]:
    """As `_wrap`. Reports run in a thread: they may block on the database and the network."""
    function = decorated.function

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        task = await sync_to_async(decorated.new_task)(args, kwargs)
        if task is None:
            with working_on(decorated.given_task(args, kwargs)):
                return await function(*args, **kwargs)
        await sync_to_async(decorated.begin)(task, args, kwargs)
        try:
            with working_on(task):
                answer = await function(*args, **{**kwargs, "task": task})
            await sync_to_async(decorated.end)(task, answer, args, kwargs)
        except BaseException as exc:
            await sync_to_async(fail_quietly)(task, exc)
            if decorated.is_returned(exc, task):
                return _empty_answer(args, kwargs)
            raise
        return answer

    return run


def _is_queued(function: object) -> bool:
    """Whether it is a task of Django (`django.tasks`, or the package django-tasks), which wraps a function."""
    return dataclasses.is_dataclass(function) and hasattr(function, "func") and hasattr(function, "enqueue")


def takes_task(function: Callable[..., Any]) -> bool:
    """Whether a function takes the keyword argument `task`."""
    parameters = inspect.signature(function).parameters
    parameter = parameters.get("task")
    if parameter is not None:
        return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def reports_itself(function: object) -> bool:
    """Whether `@progress` has decorated it."""
    return getattr(function, _MARK, False)


def name_of(function: Callable[..., Any]) -> str:
    """The name of a task after its function."""
    return function.__name__.strip("_").replace("_", " ").capitalize()


def _user_of_request(given: _Kwargs, args: _Args, kwargs: _Kwargs) -> Any:
    for argument in (given.get("request"), *args, *kwargs.values()):
        user = getattr(argument, "user", None)
        if user is not None:
            return user
    raise TypeError("@progress takes the user from the request, and no argument has a `user`; see its argument `user`")


def _named_user(user: str | Callable[..., Any], given: _Kwargs, args: _Args, kwargs: _Kwargs) -> Any:
    named = given.get(user) if isinstance(user, str) else user(*args, **kwargs)
    if named is None:
        raise TypeError(f"@progress found no user: {user!r} is None, or not among the arguments")
    return named


def link_of(result: Callable[[Any], Any], answer: Any) -> tuple[Any, Any]:
    """The URL of the result, and the text of its button, by the option `result`; each may be None."""
    link = result(answer)
    return link if isinstance(link, tuple) else (link, None)


def filled(template: Any, given: _Kwargs) -> str:
    """A text with the call's arguments in it. Raises `TypeError` if it does not fit them."""
    text = str(template)
    if "{" not in text:
        return text
    try:
        return text.format_map(given)
    except (KeyError, IndexError, ValueError, AttributeError) as exc:
        raise TypeError(f"the text {text!r} does not fit the call's arguments: {exc!r}") from None


def _empty_answer(args: _Args, kwargs: _Kwargs) -> HttpResponse | None:
    """What a cancelled call returns: a response for a view, None for other functions."""
    if any(isinstance(argument, HttpRequest) for argument in (*args, *kwargs.values())):
        return HttpResponse(status=204)
    return None
