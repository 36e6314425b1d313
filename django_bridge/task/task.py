"""`Task`: something long whose progress the browser shows, and the model keeps.

Every change is told to the service, and then to the row, by `reporter`. Must not know: transports, loops.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from django_bridge.languages import speaking
from django_bridge.recipients import channels, is_anonymous, user_key
from django_bridge.task.cancel import Shield, TaskCancelled
from django_bridge.task.context import TaskContext
from django_bridge.task.reporter import TaskReporter, now_ms
from django_bridge.texts import fault_text, is_lazy, rendered
from notifier import rules
from notifier import task as states
from notifier.errors import InvalidInput, PayloadTooLarge
from notifier.event import new_id

if TYPE_CHECKING:
    from django_bridge.task.share import Share


class Task(TaskContext):
    """A run of progress messages, sent to the browser while something long runs.

        task = Task(from_user=request.user, task_name="A long task")
        task.begin(state="The task begins")
        for i in Progress(SimpleModel.objects.all(), parts=5, task=task):
            time.sleep(0.03)
        task.end(state="The task is over")

    `with Task(...) as task:` begins and ends it; `abegin` and the like are for asynchronous code. `from_user` is a
    user, its primary key, or None for the system; `to_users`, whoever shall see the task, is given as for a `Message`,
    and is `from_user` when omitted. The task of an anonymous user is kept in the model and shown to nobody.

    Changes go out at once, also inside `transaction.atomic()`: progress that waited for the commit would be none. The
    row (`TaskRecord`) belongs to the transaction it is written in: after a rollback it says what it said before, until
    the next change brings it up to date; a row that was first written in a rolled-back transaction is gone until then.
    Of several processes that work on one task, none puts an older state over a newer one.

    Raises `InvalidInput` for values that break a rule and `Conflict` for a change after the end. A service that cannot
    be reached raises nothing (see `NOTIFIER["RAISE"]`); the next change that gets through carries the whole state.
    Another process can go on with it: see `resume`.
    """

    def __init__(self, *, task_name: Any, from_user: Any = None, to_users: Any = None) -> None:
        if from_user is None and to_users is None:
            raise InvalidInput("must be given where there is no from_user: nobody would see the task", field="to_users")
        self.id = new_id()
        """Known before the task begins."""
        self.active_loop: object = None
        self.cancelled_text: Any = None
        """The state that a user's cancel ends it with; None: the last one stays."""
        self._shield = Shield()
        self._name = task_name
        self._to_users = from_user if to_users is None else to_users
        self._from_user = from_user
        self._reporter: TaskReporter | None = None
        """From the begin on."""

    @classmethod
    def resume(cls, task_id: str | Task) -> Self:
        """A task that began elsewhere, from its row: a view begins it, a worker goes on. Raises `NotFound`."""
        from django_bridge.task import records

        # Celery's eager mode hands over the task itself, where a worker gets its id.
        known, key = records.read(task_id.id if isinstance(task_id, Task) else task_id)
        task = cls(task_name=known.name, to_users=())
        task.id, task._reporter = known.id, TaskReporter(known, key)
        return task

    def __json__(self) -> str:
        """As the argument of a Celery task it is its id, for `resume`; the work goes on there."""
        if self._reporter is not None:
            self._reporter.hand_over()
        return self.id

    def __del__(self) -> None:
        # The last of quick advances, where the loop ended without an end. It may be the garbage collector that calls,
        # in the middle of anything: nothing is sent, written or waited for here.
        reporter = getattr(self, "_reporter", None)
        if reporter is not None and not sys.is_finalizing():
            reporter.leave()

    # What is known here

    @property
    def begun(self) -> bool:
        return self._reporter is not None

    @property
    def ended(self) -> bool:
        """Whether it has ended, as far as is known here: nothing changes any more."""
        return self._reporter is not None and (self._reporter.known.ended or self._reporter.ended_elsewhere)

    @property
    def status(self) -> str:
        """`pending running cancelling succeeded failed cancelled`."""
        return "pending" if self._reporter is None else self._reporter.known.status

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
        """Whether a user asked to cancel, as of the last change that the service answered."""
        return self._reporter is not None and self._reporter.known.cancel_requested

    def raise_if_cancelled(self) -> None:
        """Where a user asked to cancel: ends the task as cancelled and raises `TaskCancelled`.

        `Progress` calls it after each part. It goes by the last answer; one that is older than a second is renewed.
        Where another process has ended the task so, this one stops too.
        """
        reporter = self._reporter
        if reporter is None or self._shield:
            return
        if not self.ended and not self.cancel_requested:
            reporter.ask()
        if self.cancel_requested and not self.ended:
            self.cancelled(self.cancelled_text)
        elif not (reporter.ended_elsewhere and self.status == "cancelled"):
            return
        raise TaskCancelled(self.id)

    def shield(self) -> Shield:
        """`with task.shield():` a part of the work that a user's cancel does not interrupt."""
        return self._shield

    def speaking(self) -> AbstractContextManager[object]:
        """`with task.speaking():` lazy translations become text in the language of the one user who watches it."""
        key = None if self._reporter is None else self._reporter.user_key
        return speaking(self._to_users if self._to_users else key)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    # Changes

    def begin(self, state: Any = "", total: int | None = None) -> None:
        """Announces the task. For one that has begun already this is `set_state`."""
        if self._reporter is None:
            self._begin(state, total)
        elif self.status == "pending":
            self._change(status="running", state=state or None, total=total)
        else:
            self.set_state(state or None, total=total)

    def works_here(self) -> None:
        """Says that this process works on it from now on: the service hears that it is alive, and tells when it dies.

        A block, a loop, `@progress` and every change say so by themselves.
        """
        if self._reporter is not None:
            self._reporter.works_here()

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None:
        """Says what is going on, how much is done and of how much; what is omitted stays. Begins the task first."""
        self._change(state=state, done=done, total=total)

    def wait(self, state: Any = None) -> None:
        """Nobody works on it for now: it is pending until its next change, and no signs of life are missed."""
        self._change(status="pending", state=state)

    def advance(self, n: int = 1) -> None:
        """Adds to what is done: right also where several processes advance one task. Begins the task first.

        In a tight loop it tells ten times a second; the first and the last always.
        """
        self._begun().advance(n)

    def advance_once(self, key: str, n: int) -> bool:
        """Adds to what is done, once however often it is called with this key within five minutes; whether the service
        has it. `share` keeps count for longer."""
        return self._begun().advance_once(key, n)

    def share(self, key: object) -> Share:
        """One worker's part of this task: what runs again under the same key is not counted twice.

        At most 200 characters; one process at a time works under one key. Raises `InvalidInput`.
        """
        from django_bridge.task.share import Share

        return Share(self, rules.text(str(key), "key", max_chars=200, empty=False))

    def end(self, state: Any = None) -> None:
        """The work is done. `done` stays what it is: a pass that was left early does not become 100 %."""
        self._change(status="succeeded", state=state)

    def fail(self, error: Any, state: Any = None) -> None:
        """The work has failed: `error` is an exception or a text, and users see it. Characters that cannot be sent are
        replaced and what is too long is cut, since this is called where something else already went wrong. For
        its own `TaskCancelled` this is `cancelled`."""
        if isinstance(error, TaskCancelled) and error.task_id == self.id:
            self.cancelled(state)
            return
        self._change(status="failed", error=fault_text(error), state=state)

    def cancelled(self, state: Any = None) -> None:
        """The work was given up, as a user asked. Nothing happens where it has ended so already."""
        if self.status == "cancelled":
            return
        self._change(status="cancelled", state=state)

    def _change(self, **change: Any) -> None:
        change = {key: self._text(value) for key, value in change.items() if value is not None}
        if change:
            self._begun().change(change)

    def _text(self, value: Any) -> Any:
        if not is_lazy(value):
            return value
        with self.speaking():
            return rendered(value)

    def _begun(self) -> TaskReporter:
        if self._reporter is None:
            self._begin("", None)
        assert self._reporter is not None
        return self._reporter

    def _begin(self, state: Any, total: int | None) -> None:
        anonymous = is_anonymous(self._to_users)
        to = () if anonymous else rules.recipients(channels(self._to_users), "to_users")
        known = _new(to=to, name=self._text(self._name), state=self._text(state), total=total, task_id=self.id)
        if len(rules.to_json(known.record())) > rules.MAX_BODY_BYTES:
            raise PayloadTooLarge("names too many recipients for a task: use a group", field="to_users")
        self._reporter = TaskReporter(known, user_key(self._from_user))
        self._reporter.announce()


def _new(*, to: tuple[str, ...], name: object, state: object, total: int | None, task_id: str) -> states.Task:
    """A new state. Nobody may watch it: `to` may be empty. Raises `InvalidInput`."""
    task = states.begin(
        to=to or ("user:nobody",), name=name, state=state, total=total, task_id=task_id, now_ms=now_ms()
    )
    return dataclasses.replace(task, to=to)
