"""Topics of model instances, and the event `changed` by which pages fetch again what they show.

Must not know: transports, templates, who may see an instance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import connections, router
from django.db.models import Manager, Model, QuerySet
from django.db.models.query import ModelIterable

from django_bridge.commit import after_commit, open_transactions
from django_bridge.conf import settings
from django_bridge.event import Event
from django_bridge.event_loop import outside_loop
from django_bridge.payload import Payload
from django_bridge.primary_keys import is_set, text_of
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
        if not is_set(shown.pk):
            raise InvalidInput("is an instance that was never saved", field=field)
        name = _name(type(shown), shown.pk)
    return NamedTopic(rules.name(name() if callable(name) else name, field))


@outside_loop
def changed(shown: object, *, spread_s: float | None = None, using: str | None = None) -> None:
    """Let the pages that show a model instance fetch it again: an event `changed` to its topic (see `topic_of`).

        changed(order)
        changed(Order.objects.filter(batch=7))  # after update(), bulk_create() and the like

    The event is sent on commit, and not at all after a rollback; several calls within a transaction are one event for
    each topic. Of a QuerySet each row is a topic; its rows are read at the call, from the database that they are
    written to. With `NOTIFIER["OUTBOX"]` the event is a row of the transaction, as a message is.

    `using`: the alias of the database that has the change: its commit alone sends the event. By default each commit of
    a transaction that is open sends one; and the call itself, if the instances are in a database without a transaction.

    `spread_s`: over how many seconds (0 to 60) the pages spread their fetches. By default the service chooses by the
    audience: up to 20 viewers fetch at once, more of them over up to 2 seconds. Raises `InvalidInput`.
    """
    if spread_s is not None and not (isinstance(spread_s, int | float) and 0 <= spread_s <= MAX_SPREAD_S):
        raise InvalidInput(f"must be a number from 0 to {MAX_SPREAD_S}, not {rules.shown(spread_s)}", field="spread_s")
    if isinstance(shown, Manager):
        shown = shown.all()
    if isinstance(shown, QuerySet) and shown._result_cache is None:
        shown = _written(shown)
    names = dict.fromkeys(_topics(shown))
    for alias in _databases(shown) if using is None else [using]:
        for name in names:
            _send_once(name, spread_s, alias)


def _written(rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows, read from the database that they are written to."""
    rows = rows.all()
    rows._for_write = True  # type: ignore[attr-defined]  # django-stubs leaves it out
    return rows


def _databases(shown: object) -> list[str | None]:
    """Where a change of `shown` may be: in the database that it is written to, and wherever a transaction is open. None
    where neither is known."""
    aliases = [connection.alias for connection in open_transactions()]
    if isinstance(shown, QuerySet):
        aliases.append(_written(shown).db)
    elif isinstance(shown, Model):
        aliases.append(router.db_for_write(type(shown), instance=shown))
    return list(dict.fromkeys(aliases)) or [None]


def _topics(shown: object) -> Iterator[str]:
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
    try:
        return f"{concrete._meta.label_lower}:{text_of(concrete, key)}"
    except (ValueError, ValidationError) as exc:
        raise InvalidInput(f"has a key of another type: {rules.shown(key)}", field="changed") from exc


class _Batch:
    """The topics that changed in one transaction of a database. It ends with that, or when the first of its commit
    hooks runs."""

    def __init__(self, database: str) -> None:
        self.id = new_id()
        self.database: Final = database
        self.sent: set[str] = set()
        self._is_open = True
        self._hooks: list[Callable[[], None]] = []
        self._registered: list[Any] = []
        """The hooks of the connection when one of these was last seen among them."""

    @property
    def is_open(self) -> bool:
        # Hooks of a transaction do not run after one of the project that raises. Django replaces its list of hooks at
        # each commit and rollback, also of a savepoint.
        registered = connections[self.database].run_on_commit
        if self._is_open and registered is not self._registered:
            self._is_open = any(any(hook is own for own in self._hooks) for _, hook, *_ in registered)
            self._registered = registered
        return self._is_open

    def on_commit(self, hook: Callable[[], object]) -> None:
        self._hooks.append(after_commit(hook, self.database))
        self._registered = connections[self.database].run_on_commit

    def close(self) -> None:
        self._is_open = False

    def send(self, name: str, spread_s: float | None) -> None:
        # Each call has a hook of its own, so that the rollback of a savepoint drops only the calls within it.
        self.close()
        if name not in self.sent:
            self.sent.add(name)
            send_payload(_event(name, spread_s), self.database)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.batches: dict[str, _Batch] = {}

    def batch(self, database: str) -> _Batch:
        batch = self.batches.get(database)
        if batch is None or not batch.is_open:
            batch = self.batches[database] = _Batch(database)
        return batch


_thread = _Thread()


def _send_once(name: str, spread_s: float | None, database: str | None) -> None:
    if database is None or not connections[database].in_atomic_block:
        send_payload(_event(name, spread_s), database)
        return
    batch = _thread.batch(database)
    if not _is_in_outbox_of(database):
        batch.on_commit(partial(batch.send, name, spread_s))
        return
    from django_bridge import outbox  # loads the models

    # A row that a savepoint rolled back is absent, and written again under the same id.
    payload = {**_event(name, spread_s), "id": id_from_key(f"{batch.id}:{name}")}
    if not outbox.has(payload["id"]):
        send_payload(payload, database)
    batch.on_commit(batch.close)


def _is_in_outbox_of(database: str) -> bool:
    """Whether an event is a row of a transaction of this database."""
    if not settings().outbox:
        return False
    from django_bridge import outbox  # as above

    return outbox.database() == database


def _event(name: str, spread_s: float | None) -> Payload:
    data = {} if spread_s is None else {"spread_s": spread_s}
    return Event(type=CHANGED, to_users=NamedTopic(name), data=data).payload()
