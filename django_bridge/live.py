"""Topics of model instances, and the event `changed` by which pages fetch again what they show.

Must not know: transports, templates, who may see an instance.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Final

from django.db.models import Manager, Model, QuerySet
from django.db.models.query import ModelIterable

from django_bridge.commit import after_commit, open_transactions
from django_bridge.conf import settings
from django_bridge.event import Event
from django_bridge.event_loop import outside_loop
from django_bridge.recipients import CHUNK, NamedTopic, topic
from django_bridge.sending import send_payload
from notifier import rules
from notifier.errors import InvalidInput
from notifier.event import id_from_key, new_id

CHANGED: Final = "changed"
"""The type of the event."""
MAX_SPREAD_S: Final = 60


def topic_of(shown: object, field: str = "topic") -> NamedTopic:
    """The topic of a model instance: its attribute `live_topic` where it has one, else `app.model:pk`. A string is the
    name itself. Raises `InvalidInput`."""
    if isinstance(shown, NamedTopic):
        return shown
    if isinstance(shown, str):
        return NamedTopic(rules.name(shown, field))
    if not isinstance(shown, Model):
        raise InvalidInput(f"must be a model instance, topic(...) or a name, not {rules.shown(shown)}", field=field)
    name = getattr(shown, "live_topic", None)
    if name is None:
        if shown.pk is None:
            raise InvalidInput("is an instance that was never saved", field=field)
        name = _name(type(shown), shown.pk)
    return NamedTopic(rules.name(name() if callable(name) else name, field))


@outside_loop
def changed(shown: object, *, spread_s: float | None = None) -> None:
    """Let the pages that show a model instance fetch it again: an event `changed` to its topic (see `topic_of`).

        changed(order)
        changed(Order.objects.filter(batch=7))  # after update(), bulk_create() and the like

    The event is sent on commit, and not at all after a rollback; several calls within a transaction are one event for
    each topic. Of a QuerySet each row is a topic; its rows are read at the call. With `NOTIFIER["OUTBOX"]` the event is
    a row of the transaction, as a message is.

    `spread_s`: over how many seconds (0 to 60) the pages spread their fetches. By default the service chooses by the
    audience: up to 20 viewers fetch at once, more of them over up to 2 seconds. Raises `InvalidInput`.
    """
    if spread_s is not None and not (isinstance(spread_s, int | float) and 0 <= spread_s <= MAX_SPREAD_S):
        raise InvalidInput(f"must be a number from 0 to {MAX_SPREAD_S}, not {rules.shown(spread_s)}", field="spread_s")
    for name in dict.fromkeys(_topics(shown)):
        _send_once(name, spread_s)


def _topics(shown: object) -> Iterator[str]:
    if isinstance(shown, Manager):
        shown = shown.all()
    if not isinstance(shown, QuerySet):
        yield topic_of(shown, "changed").name
    elif hasattr(shown.model, "live_topic") or shown._result_cache is not None:
        for row in shown if shown._result_cache is not None else shown.iterator(chunk_size=CHUNK):
            yield topic_of(row, "changed").name
    elif not issubclass(shown._iterable_class, ModelIterable):
        raise InvalidInput("is a QuerySet of values, not of instances", field="changed")
    else:
        for key in shown.values_list("pk", flat=True).iterator(chunk_size=CHUNK):
            yield topic(_name(shown.model, key)).name


def _name(model: type[Model], key: object) -> str:
    """`app.model:pk`, of the model whose rows these are: proxies and deferred fields share it."""
    concrete = model._meta.concrete_model or model
    return f"{concrete._meta.label_lower}:{key}"


class _Batch:
    """The topics that changed in one transaction. It ends when the first of its commit hooks runs."""

    def __init__(self) -> None:
        self.id = new_id()
        self.is_open = True
        self.sent: set[str] = set()

    def close(self) -> None:
        self.is_open = False

    def send(self, name: str, spread_s: float | None) -> None:
        # Each call has a hook of its own, so that the rollback of a savepoint drops only the calls within it.
        self.close()
        if name not in self.sent:
            self.sent.add(name)
            _event(name, spread_s).send()


class _Thread(threading.local):
    def __init__(self) -> None:
        self.batch = _Batch()


_thread = _Thread()


def _send_once(name: str, spread_s: float | None) -> None:
    if not open_transactions():
        _event(name, spread_s).send()
        return
    if not _thread.batch.is_open:
        _thread.batch = _Batch()
    batch = _thread.batch
    if not settings().outbox:
        after_commit(partial(batch.send, name, spread_s))
        return
    from django_bridge import outbox  # loads the models

    # A row that a savepoint rolled back is absent, and written again under the same id.
    payload = {**_event(name, spread_s).payload(), "id": id_from_key(f"{batch.id}:{name}")}
    if not outbox.has(payload["id"]):
        send_payload(payload)
    after_commit(batch.close)


def _event(name: str, spread_s: float | None) -> Event:
    data = {} if spread_s is None else {"spread_s": spread_s}
    return Event(type=CHANGED, to_users=NamedTopic(name), data=data)
