"""Messages of Dramatiq that report themselves: `broker.add_middleware(ReportedMessages())`, as its last middleware.

Dramatiq tries a message that failed again under the same id; a message is over when it is acknowledged or rejected.
Must not know: how a job is reported.
"""

from __future__ import annotations

from contextvars import Token
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections
from dramatiq.middleware import Middleware, SkipMessage

from django_bridge.loop import current
from django_bridge.queues import job as jobs
from django_bridge.queues.owner import SEARCH, User
from django_bridge.task.cancel import TaskCancelled
from django_bridge.task.task import Task


@dataclass(slots=True)
class _Run:
    task: Task
    token: Token[Any]
    error: BaseException | None = None


class ReportedMessages(Middleware):
    """`user` and `skip` (names of actors that are not reported) are for all actors; an actor's options take precedence:
    `notifier_user`, `notifier_name`, `notifier_result`, as in `django_bridge.queues.rq.ReportedJob`."""

    def __init__(self, user: User = SEARCH, *, skip: tuple[str, ...] = ()) -> None:
        self._user, self._skip = user, skip
        self._runs: dict[str, _Run] = {}
        """Messages of this process, by id, from their start until they are acknowledged."""

    @property
    def actor_options(self) -> set[str]:
        return {"notifier_user", "notifier_name", "notifier_result"}

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        run = self._runs.get(message.message_id)
        if run is not None and run.error is not None:
            limit = message.options.get("max_retries", broker.get_actor(message.actor_name).options.get("max_retries"))
            jobs.waiting(run.task, message.options.get("retries", 1), limit, run.error)
            run.error = None
        elif run is None:
            self._job(broker, message).queued()

    def before_process_message(self, broker: Any, message: Any) -> None:
        close_old_connections()
        try:
            task = self._job(broker, message).started()
        except TaskCancelled as exc:
            message.fail()
            raise SkipMessage from exc
        if task is not None:
            self._runs[message.message_id] = _Run(task, current.enter(task))

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        run = self._runs.get(message.message_id)
        if run is None:
            return
        current.leave(run.token)
        run.error = exception
        if isinstance(exception, TaskCancelled):
            message.options["throws"] = TaskCancelled  # not tried again
        elif exception is None:
            jobs.succeeded(run.task, result, broker.get_actor(message.actor_name).options.get("notifier_result"))

    def after_skip_message(self, broker: Any, message: Any) -> None:
        run = self._runs.get(message.message_id)
        if run is not None:
            current.leave(run.token)
        jobs.cancelled(run.task if run is not None else jobs.logged(jobs.resumed)(message.message_id))

    def after_ack(self, broker: Any, message: Any) -> None:
        run = self._runs.pop(message.message_id, None)
        if run is not None and run.error is not None:
            jobs.failed(run.task, run.error)

    after_nack = after_ack

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        jobs.flush()

    def _job(self, broker: Any, message: Any) -> jobs.Job:
        actor = broker.get_actor(message.actor_name)
        user = None if actor.actor_name in self._skip else actor.options.get("notifier_user", self._user)
        name = actor.options.get("notifier_name")
        return jobs.Job(message.message_id, actor.fn, message.args, message.kwargs, user, name)
