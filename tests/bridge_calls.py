"""Every call of the transport `redis` that the rights of a publisher are for."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from django_bridge.payload import Payload, with_defaults
from django_bridge.publisher.redis import RedisTransport
from django_bridge.publisher.transport import Attempt, Transport
from notifier import task
from notifier.question import Question

WITHIN_S = 20.0
TO = ["user:ann", *(f"user:{number}" for number in range(6)), "group:staff", "all"]
"""In a cluster, in several shards."""


def call_everything(transport: RedisTransport, task_id: str = "") -> None:
    """Each method of a transport, apart from those that read inboxes and presence, which need the service's rights."""
    noted = _Noted(transport)
    calls: Any = noted
    message: Payload = with_defaults({"id": uuid4().hex, "to": TO, "subject": "first", "key": "order-7"})
    replacement = {**message, "id": uuid4().hex}
    for sent in (message, message, replacement):
        _run(calls.message(sent))
    _run(calls.correct(replacement["id"], TO, {"subject": "corrected"}))
    _run(calls.retract(replacement["id"], TO))
    for durable in (True, False):
        _run(calls.event({"to": TO, "type": "order.paid", "data": {}, "durable": durable}, uuid4().hex))
    _run(calls.event({"to": ["topic:order:7"], "type": "changed", "data": {}}, uuid4().hex))
    now_ms = int(time.time() * 1000)
    begun = task.begin(to=tuple(TO), name="Import", state="", total=2, task_id=task_id or None, now_ms=now_ms)
    _run([calls.create_task(begun, uuid4().hex)])
    advance = calls.change_task(begun.id, {"advance": 1}, uuid4().hex)
    _run([calls.change_task(begun.id, task.BEAT, uuid4().hex), advance, advance])
    appended = calls.append_output(begun.id, "a line\n", uuid4().hex)
    _run([appended, appended])
    question = Question("q", "Overwrite?", (), "no", asked_at_ms=now_ms - 2000, expires_at_ms=now_ms - 1000)
    _run([calls.ask(begun.id, question, uuid4().hex)])
    answer = calls.answer(begun.id, "q")(WITHIN_S)
    assert answer is not None
    assert answer.value == "no"
    assert list(calls.kept_tasks(TO[0], [begun.id])(WITHIN_S)) == [begun.id]
    _run([calls.change_task(begun.id, {"status": "succeeded"}, uuid4().hex)])
    assert int(calls.cursor("ann")(WITHIN_S).partition("-")[2]) > 0
    methods = {name for name, value in vars(Transport).items() if callable(value) and not name.startswith("_")}
    assert noted.names == methods - {"close", "presence", "read_states"}


def _run(attempts: Iterable[Attempt[object]]) -> None:
    for attempt in attempts:
        attempt(WITHIN_S)


class _Noted:
    """A transport, and the names of the methods that were called."""

    def __init__(self, transport: RedisTransport) -> None:
        self.names: set[str] = set()
        self._transport = transport

    def __getattr__(self, name: str) -> object:
        self.names.add(name)
        return getattr(self._transport, name)
