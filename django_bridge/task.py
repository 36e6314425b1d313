"""`Task`: something long whose progress the browser shows, and the model keeps.

A `Task` holds the state as this process knows it (a `notifier.task.Task`, with the rules of its life), tells every
change to the service at once, and then to the row. Must not know: transports, loops.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Final, Self

from django_bridge import publisher
from django_bridge.cancel import Shield, TaskCancelled
from django_bridge.publisher.transport import TaskAnswer
from django_bridge.recipients import channels, is_anonymous, user_key
from django_bridge.task_context import TaskContext
from django_bridge.texts import fault_text, rendered
from notifier import rules
from notifier import task as states
from notifier.errors import Conflict, InvalidInput, NotFound, PayloadTooLarge
from notifier.event import new_id

ASK_EVERY_S: Final = 1.0
"""How old an answer may be before the service is asked again whether a user cancelled."""


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

    Raises `InvalidInput` for values that break a rule and `Conflict` for a change after the end. A service that cannot
    be reached raises nothing (see `NOTIFIER["RAISE"]`); the next change that gets through carries the whole state. Not
    for several threads at once; another process can go on with it: see `resume`.
    """

    def __init__(self, *, task_name: Any, from_user: Any = None, to_users: Any = None) -> None:
        if from_user is None and to_users is None:
            raise InvalidInput("must be given where there is no from_user: nobody would see the task", field="to_users")
        self.id = new_id()
        """Known before the task begins."""
        self.follows: object = None
        self.cancelled_text: Any = None
        """The state that a user's cancel ends it with; None: the last one stays."""
        self._shield = Shield()
        self._asked_at = 0.0
        self._name = task_name
        self._to_users = from_user if to_users is None else to_users
        self._from_user = from_user
        self._user_key: Any = None
        self._known: states.Task | None = None
        self._owed: list[tuple[str, int]] = []
        """Advances (key, n) that did not get through."""
        self._unsaid: set[str] = set()
        """Fields whose latest values did not get through."""

    @classmethod
    def resume(cls, task_id: str) -> Self:
        """A task that began elsewhere, from its row: a view begins it, a worker goes on. Raises `NotFound`."""
        from django_bridge import records

        known, key = records.read(task_id)
        found = cls(task_name=known.name, to_users=())
        found.id, found._known, found._user_key = known.id, known, key
        return found

    def __json__(self) -> str:
        """As the argument of a Celery task it is its id, for `resume`."""
        return self.id

    # What is known here

    @property
    def begun(self) -> bool:
        return self._known is not None

    @property
    def ended(self) -> bool:
        """Whether it was ended here: nothing changes any more."""
        return self._known is not None and self._known.ended

    @property
    def status(self) -> str:
        """`pending running cancelling succeeded failed cancelled`."""
        return "pending" if self._known is None else self._known.status

    @property
    def done(self) -> int:
        return 0 if self._known is None else self._known.done

    @property
    def total(self) -> int | None:
        return None if self._known is None else self._known.total

    @property
    def percent(self) -> int | None:
        return None if self._known is None else self._known.percent

    @property
    def cancel_requested(self) -> bool:
        """Whether a user asked to cancel, as of the last change that the service answered."""
        return self._known is not None and self._known.cancel_requested

    def raise_if_cancelled(self) -> None:
        """Where a user asked to cancel: ends the task as cancelled and raises `TaskCancelled`.

        `Progress` calls it after each part. It goes by the last answer; one that is older than a second is renewed.
        """
        if self._known is None or self.ended or self._shield:
            return
        if not self.cancel_requested and time.monotonic() - self._asked_at >= ASK_EVERY_S:
            self._ask()
        if self.cancel_requested:
            self.cancelled(self.cancelled_text)
            raise TaskCancelled(self.id)

    def shield(self) -> Shield:
        """`with task.shield():` a part of the work that a user's cancel does not interrupt."""
        return self._shield

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    # Changes

    def begin(self, state: Any = "", total: int | None = None) -> None:
        """Announces the task. For one that has begun already this is `set_state`."""
        if self._known is None:
            self._begin(state, total)
        else:
            self.set_state(state or None, total=total)

    def set_state(self, state: Any = None, *, done: int | None = None, total: int | None = None) -> None:
        """Says what is going on, how much is done and of how much; what is omitted stays. Begins the task first."""
        self._change(state=state, done=done, total=total)

    def advance(self, n: int = 1) -> None:
        """Adds to what is done: right also where several processes advance one task. Begins the task first."""
        self._alter({"advance": n})
        if "done" not in self._unsaid:
            # Only the first was ever tried: what follows it joins into one, and goes out after it.
            if len(self._owed) > 1:
                n += self._owed.pop()[1]
            self._owed.append((new_id(), n))
        self._tell()

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

    # One change: here, to the service, to the row

    def _begin(self, state: Any, total: int | None) -> None:
        anonymous = is_anonymous(self._to_users)
        to = () if anonymous else rules.recipients(channels(self._to_users), "to_users")
        known = states.begin(
            to=to or ("user:nobody",),
            name=rendered(self._name),
            state=rendered(state),
            total=total,
            task_id=self.id,
            now_ms=_now_ms(),
        )
        if len(rules.to_json(known.record())) > rules.MAX_BODY_BYTES:
            raise PayloadTooLarge("names too many recipients for a task: use a group", field="to_users")
        self._user_key = user_key(self._from_user)
        self._known = dataclasses.replace(known, to=to)
        try:
            self._announce()
        finally:
            self._write()

    def _change(self, **change: Any) -> None:
        change = {key: rendered(value) for key, value in change.items() if value is not None}
        if not change:
            return
        self._alter(change)
        self._unsaid |= change.keys()
        if "done" in change:
            self._owed.clear()
        self._tell()

    def _alter(self, change: Mapping[str, Any]) -> None:
        """The state here. Raises before anything is sent."""
        if self._known is None:
            self._begin("", None)
        assert self._known is not None
        self._known = self._known.changed(change, now_ms=_now_ms())

    def _tell(self) -> None:
        """Sends what the service does not know yet, then writes the row."""
        try:
            if self._settle() and self._unsaid:
                change = {key: getattr(self._known, key) for key in sorted(self._unsaid)}
                if self._send(new_id(), change):
                    self._unsaid.clear()
        finally:
            self._write()

    def _settle(self) -> bool:
        """Sends the advances that are owed, each under its own key; whether all got through."""
        while self._owed:
            key, n = self._owed[0]
            if not self._send(key, {"advance": n}):
                return False
            self._owed = self._owed[1:]
        return True

    def _ask(self) -> None:
        """A change that changes nothing: its answer is what is wanted."""
        if self._owed or self._unsaid:
            self._tell()
        else:
            self._send(new_id(), {"advance": 0})

    def _send(self, key: str, change: Mapping[str, object]) -> bool:
        """Whether the service has the change now, or does not want it."""
        assert self._known is not None
        if not self._known.to:
            return True
        self._asked_at = time.monotonic()  # answered or not: a service that is away is not asked at each part
        try:
            outcome = publisher.current().change_task(self.id, change, key)
        except NotFound:  # the begin was lost, or the service has forgotten everything
            return self._announce()
        except Conflict:  # ended by someone else: the rest of this run concerns nobody
            return True
        self._learn(outcome.answer)
        return outcome.settled

    def _announce(self) -> bool:
        """Makes the service know all of the state."""
        assert self._known is not None
        if not self._known.to:
            return True
        self._asked_at = time.monotonic()
        try:
            outcome = publisher.current().create_task(dataclasses.replace(self._known, version=1), new_id())
        except Conflict:
            return True
        if outcome.answer is not None:
            self._owed.clear()
            self._unsaid.clear()
        self._learn(outcome.answer)
        return outcome.settled

    def _learn(self, answer: TaskAnswer | None) -> None:
        known = self._known
        if answer is None or known is None:
            return
        # Of the advances, the first is the one that was answered; what follows it is done too.
        owed = sum(n for _, n in self._owed[1:])
        cancelling = answer.cancel_requested and known.status == "running"
        self._known = dataclasses.replace(
            known,
            done=known.done if "done" in self._unsaid else answer.done + owed,
            total=known.total if "total" in self._unsaid else answer.total,
            cancel_requested=answer.cancel_requested,
            status="cancelling" if cancelling else known.status,
        )

    def _write(self) -> None:
        from django_bridge import records

        assert self._known is not None
        records.write(self._known, self._user_key)


def _now_ms() -> int:
    return int(time.time() * 1000)
