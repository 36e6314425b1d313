"""`Task`: a long operation whose progress is shown in the browser and kept in a row.

`reporter` sends each change to the service and writes it to the row. Must not know: transports, loops.
"""

from __future__ import annotations

import dataclasses
import sys
import uuid
from collections import Counter
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from asgiref.sync import sync_to_async

from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.languages import speaking
from django_bridge.recipients import channels, is_anonymous, user_key
from django_bridge.task.asking import TaskQuestions
from django_bridge.task.cancel import Shield, TaskCancelled
from django_bridge.task.reporter import TaskReporter, now_ms
from django_bridge.texts import is_lazy, rendered, shown_error, traceback_text
from notifier import json_text, rules
from notifier import task as states
from notifier.errors import InvalidInput, PayloadTooLarge
from notifier.event import new_id

if TYPE_CHECKING:
    from django_bridge.task.share import Share


class Task(TaskQuestions):
    """A long operation whose progress is shown in the browser.

        task = Task(from_user=request.user, task_name="A long task")
        task.begin(state="The task begins")
        for i in Progress(SimpleModel.objects.all(), parts=5, task=task):
            time.sleep(0.03)
        task.end(state="The task is over")

    `with Task(...) as task:` begins and ends it; `abegin` and the like are for asynchronous code. `from_user` is a
    user, its primary key, or None for the system. `to_users` are the users who see the task, in the forms that
    `Message` takes; by default `from_user`. The task of an anonymous user has a row and is not shown.

    Changes are sent at once, also inside `transaction.atomic()`: on commit they would be too late to show progress. The
    row (`TaskRecord`) is written in the caller's transaction: a rollback undoes the write (a new row is gone), and the
    next change repairs it. Several processes may work on one task; an older state never overwrites a newer one.

    Raises `InvalidInput` for values that break a rule and `Conflict` for a change after the end. An unreachable service
    raises nothing (see `NOTIFIER["RAISE"]`); the next change that succeeds sends the whole state. `resume` continues
    the task in another process.
    """

    def __init__(self, *, task_name: Any, from_user: Any = None, to_users: Any = None) -> None:
        if from_user is None and to_users is None:
            raise InvalidInput("is required without from_user: the task would have no recipients", field="to_users")
        self.id = new_id()
        """Set before the task begins."""
        self.active_loop: object = None
        """The `Progress` whose numbers it shows; nested ones leave them alone."""
        self.cancelled_text: Any = None
        """The state shown after a user's cancel; None: the last state stays."""
        self._shield = Shield()
        self._asked: Counter[str] = Counter()
        self._name = task_name
        self._to_users = from_user if to_users is None else to_users
        self._from_user = from_user
        self._reporter: TaskReporter | None = None
        """None until the task begins."""

    @classmethod
    @outside_loop
    def resume(cls, task_id: str | uuid.UUID | Task) -> Self:
        """Load a task from its row, to continue it in another process: a view begins it, a worker resumes it.

        `task_id` may also be a `Task`: Celery's eager mode passes the object. Raises `NotFound`.
        """
        from django_bridge.task import records  # loads the models: too early where a models module imports `Task`

        known, key = records.read(task_id.id if isinstance(task_id, Task) else task_id)
        task = cls(task_name=known.name, to_users=())
        task.id, task._reporter = known.id, TaskReporter(known, key)
        task._reporter.ended_elsewhere = known.status == "cancelled"
        return task

    @classmethod
    async def aresume(cls, task_id: str | uuid.UUID | Task) -> Self:
        return await sync_to_async(cls.resume)(task_id)

    @outside_loop
    def __json__(self) -> str:
        """As the argument of a Celery task: its id, for `resume`. Until a worker resumes it, the task is pending."""
        if self._reporter is not None:
            self._reporter.hand_over()
        return self.id

    def __reduce__(self) -> tuple[Any, ...]:
        """As the argument of a queue that pickles, as RQ: the worker resumes it. Pending until then."""
        return type(self).resume, (self.__json__(),)

    def __del__(self) -> None:
        # Advances may be scheduled if the loop ended and the task did not. The garbage collector calls this at any
        # point, with any lock held: nothing is sent, written or waited for here.
        reporter = getattr(self, "_reporter", None)
        if reporter is not None and not sys.is_finalizing():
            reporter.on_task_collected()

    # State, as this process knows it

    @property
    def begun(self) -> bool:
        return self._reporter is not None

    @property
    def ended(self) -> bool:
        """Whether the task has ended, here or in another process: further changes raise `Conflict` or are dropped."""
        return self._reporter is not None and (self._reporter.known.ended or self._reporter.ended_elsewhere)

    @property
    def status(self) -> str:
        """`pending`, `running`, `cancelling`, `succeeded`, `failed` or `cancelled`."""
        return "pending" if self._reporter is None else self._reporter.known.status

    @property
    def state(self) -> str:
        """The state's text."""
        return "" if self._reporter is None else self._reporter.known.state

    @property
    def done(self) -> int:
        return 0 if self._reporter is None else self._reporter.known.done

    @property
    def total(self) -> int | None:
        return None if self._reporter is None else self._reporter.known.total

    @property
    def percent(self) -> int | None:
        return None if self._reporter is None else self._reporter.known.percent

    @property
    def cancel_requested(self) -> bool:
        """Whether a user asked to cancel, by the service's last answer."""
        return self._reporter is not None and self._reporter.known.cancel_requested

    @outside_loop
    def raise_if_cancelled(self) -> None:
        """If a user asked to cancel, end the task as cancelled and raise `TaskCancelled`.

        Also raised if another process has ended the task as cancelled. Asks the service if its last answer is older
        than a second. `Progress` calls this after each part.
        """
        reporter = self._reporter
        if reporter is None or self._shield:
            return
        if not self.ended and not self.cancel_requested:
            reporter.refresh()
        if self.cancel_requested and not self.ended:
            self.cancelled(self.cancelled_text)
        elif not (reporter.ended_elsewhere and self.status == "cancelled"):
            return
        raise TaskCancelled(self.id)

    def shield(self) -> Shield:
        """`with task.shield():` a part of the work that a cancel does not interrupt."""
        return self._shield

    @outside_loop
    def speaking(self) -> AbstractContextManager[object]:
        """`with task.speaking():` lazy translations are rendered in the language of the task's user.

        If it has several users, or none of a known language, in the active language.
        """
        key = None if self._reporter is None else self._reporter.user_key
        return speaking(self._to_users if self._to_users else key)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    # Changes

    @outside_loop
    def begin(self, state: Any = "", total: int | None = None) -> None:
        """Create the task in the service and its row. For a task that has begun: `set_state`."""
        if self._reporter is None:
            self._begin(state, total)
        elif self.status == "pending":
            self._change(status="running", state=state or None, total=total)
        else:
            self.set_state(state or None, total=total)

    @outside_loop
    def begin_pending(self, state: Any = "") -> None:
        """Create the task as pending: a queue has the work, and the worker continues the task. Nothing once begun."""
        if self._reporter is None:
            self._begin(state, None, status="pending")

    def works_here(self) -> None:
        """Start the heartbeats of this process: the service calls the task stalled if they stop.

        `with task:`, `Progress`, `@progress` and every change do this themselves.
        """
        if self._reporter is not None:
            self._reporter.works_here()

    @outside_loop
    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None:
        """Set the state's text, the work done and its total; omitted values stay. Begins the task if needed."""
        self._change(state=state, done=done, total=total)

    @outside_loop
    def wait(self, state: Any = None) -> None:
        """Make the task pending until its next change: no heartbeats are expected until then."""
        self._change(status="pending", state=state)

    @outside_loop
    def advance(self, n: int = 1) -> None:
        """Add to the work done; correct if several processes advance one task. Begins the task if needed.

        In a tight loop, ten calls a second are sent, always the first and the last among them.
        """
        self._begun().advance(n)

    @outside_loop
    def advance_once(self, key: str, n: int) -> bool:
        """Add to the work done, once for all calls with this key within five minutes; `share` remembers for longer.

        False: the service could not be reached, and nothing was added.
        """
        return self._begun().advance_once(key, n)

    def share(self, key: object) -> Share:
        """One worker's part of this task: work that runs again under the same key is not counted twice.

        `key`: at most 200 characters, used by one process at a time. Raises `InvalidInput`.
        """
        from django_bridge.task.share import Share  # loads the models, as in `resume`

        return Share(self, rules.text(str(key), "key", max_chars=200, empty=False))

    @outside_loop
    def end(self, state: Any = None, *, url: Any = None, url_text: Any = None) -> None:
        """End the task as succeeded, at 100 %. `done` keeps its value, also after a loop that was left early.

        `url` is where the result is: http, https or relative. Widgets, the toast and the admin show a button that leads
        there, with the text `url_text`, or a general one.
        """
        url = url if url is None else str(url)
        self._change(status="succeeded", state=state, url=url, url_text=url_text)

    @outside_loop
    def fail(self, error: Any, state: Any = None) -> None:
        """End the task as failed. `error` is a text that is shown to the users, or an exception.

        Of an exception users see what `NOTIFIER["ERROR_TEXT"]` makes of it, by default a generic text; the row keeps
        the traceback, for staff. Invalid characters are replaced and a long text is cut: this is called in error
        handling and should not raise. The `TaskCancelled` of this task ends it as cancelled.
        """
        if isinstance(error, TaskCancelled) and error.task_id == self.id:
            self.cancelled(state)
            return
        with self.speaking():
            shown = shown_error(error)
        if isinstance(error, BaseException):
            self._begun().traceback = traceback_text(error)
        self._change(status="failed", error=shown, state=state)

    @outside_loop
    def cancelled(self, state: Any = None) -> None:
        """End the task as cancelled. Does nothing if it has ended so already."""
        if self.status == "cancelled":
            return
        self._change(status="cancelled", state=state)

    def _change(self, **change: Any) -> None:
        change = {key: self._text(value) for key, value in change.items() if value is not None}
        if change:
            self._begun().change(change)

    # For the base classes

    @outside_loop
    def _prepare_question(self) -> Counter[str]:
        """Begin, send what the service does not have, and return how often each question was asked."""
        self.raise_if_cancelled()
        self._begun().flush()
        self.works_here()
        return self._asked

    @outside_loop
    def _hand_over(self) -> None:
        """Another process continues the work."""
        self._begun().hand_over()

    def _write_row(self) -> None:
        """Write the row again: the caller's transaction may have been rolled back."""
        self._begun().write_row()

    def _join_output(self, text: str) -> bool:
        """True if the text leaves with what the scheduler is about to send."""
        return self._reporter is not None and self._reporter.join_output(text)

    @outside_loop
    def _append_output(self, text: str) -> None:
        """Send the text, and look for a cancel."""
        self._begun().write(text)
        self.raise_if_cancelled()

    def _text(self, value: Any) -> Any:
        """A lazy translation in the language of the task's user; other values as they are."""
        if not is_lazy(value):
            return value
        with self.speaking():
            return rendered(value)

    def _begun(self) -> TaskReporter:
        if self._reporter is None:
            self._begin("", None)
        assert self._reporter is not None
        return self._reporter

    def _begin(self, state: Any, total: int | None, *, status: str = "running") -> None:
        anonymous = is_anonymous(self._to_users)
        to = () if anonymous else rules.recipients(channels(self._to_users), "to_users")
        if (staff := settings().tasks_group) and f"group:{staff}" not in to:
            to += (f"group:{staff}",)
        known = _new(to=to, name=self._text(self._name), state=self._text(state), total=total, task_id=self.id)
        if len(json_text.to_json(known.record())) > rules.MAX_BODY_BYTES:
            raise PayloadTooLarge("has too many recipients for a task: use a group", field="to_users")
        self._reporter = TaskReporter(dataclasses.replace(known, status=status), user_key(self._from_user))
        self._reporter.announce()


def _new(*, to: tuple[str, ...], name: object, state: object, total: int | None, task_id: str) -> states.Task:
    """The first state of a task. `to` may be empty, unlike in `states.begin`. Raises `InvalidInput`."""
    task = states.begin(
        to=to or ("user:placeholder",), name=name, state=state, total=total, task_id=task_id, now_ms=now_ms()
    )
    return dataclasses.replace(task, to=to)
