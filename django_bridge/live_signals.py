"""`live_model`: what Django's signals say about the rows of a model becomes `changed`.

Django sends a signal for the class that was saved, not for the classes that share its rows: proxies, and in multi-table
inheritance parents and children. Receivers are connected to each of these classes, and not to all models, since a model
with a receiver of `post_delete` cannot be deleted by one statement.

Must not know: names of topics, events, transports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

from django.db.models import Model, QuerySet
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save

from django_bridge import publisher
from django_bridge.live import changed
from notifier.errors import InvalidInput

M = TypeVar("M", bound=type[Model])
_OWN: Final = "django_bridge.live_model."
"""How the ids of the receivers of live models begin."""
_abstract: Final[list[type[Model]]] = []
"""Abstract models that were decorated: they have no rows, and those that inherit from them are not live."""


def live_model(model: M) -> M:
    """A class decorator: saving or deleting an instance, and a change of its many-to-many relations, is `changed`.

        @live_model
        class Order(models.Model): ...

    The same rows saved as a proxy, as a parent or as a child in multi-table inheritance are changes of this model too.

    Django sends no signals for `update()`, `bulk_create()`, `bulk_update()`, changes in SQL, and relations that go with
    the deleted object on their other side: call `changed(queryset)` after them. Fixtures that `loaddata` reads are left
    out. A row whose key or `live_topic` cannot be a topic's name is logged: no page can show it as live. An abstract
    model has no rows: decorate the models that inherit from it (`notifier.W008`).
    """
    if model._meta.abstract:
        _abstract.append(model)
        return model
    own = f"{_OWN}{model._meta.label}"
    for known in [cls for models in model._meta.apps.all_models.values() for cls in models.values()]:
        _connect(model, own, sender=known)
    class_prepared.connect(partial(_connect, model, own), weak=False, dispatch_uid=own)
    m2m_changed.connect(partial(_related, model), weak=False, dispatch_uid=own)
    return model


def is_used() -> bool:
    """Whether a model of the project is live."""
    return any(str(key[0]).startswith(_OWN) for key, *_ in class_prepared.receivers)


def abstract_models() -> list[str]:
    """The dotted names of abstract models that were decorated, which has no effect."""
    return [f"{model.__module__}.{model.__qualname__}" for model in _abstract]


def _connect(live: type[Model], own: str, sender: type[Model], **_: Any) -> None:
    """Connect a class that shares rows with the live model."""
    if _shares_rows(live, sender):
        post_save.connect(partial(_saved, live), sender=sender, weak=False, dispatch_uid=own)
        if not _is_ancestor(sender, live):  # a deletion takes the child's row along, with a signal of its own
            post_delete.connect(partial(_deleted, live), sender=sender, weak=False, dispatch_uid=own)


def _saved(live: type[Model], instance: Model, *, raw: bool = False, using: str, **_: Any) -> None:
    if not raw:
        _changed(live, instance, using)


def _deleted(live: type[Model], instance: Model, *, using: str, **_: Any) -> None:
    _changed(live, instance, using)


def _related(
    live: type[Model], sender: type[Model], instance: Model, *, action: str, using: str, **signal: Any
) -> None:
    """A many-to-many relation was changed, from the side of `instance`; `model` is the other side."""
    other, keys = signal["model"], signal["pk_set"]
    if action == "pre_clear" and _shares_rows(live, other):
        # The only time at which the other side is known. `clear()` runs in a transaction, which sends the event.
        keys = list(_related_keys(sender, instance, other, using, reverse=signal["reverse"]))
    elif not action.startswith("post_"):
        return
    elif _shares_rows(live, type(instance)):
        _changed(live, instance, using)
    if keys and _shares_rows(live, other):
        _tell(live, _rows(live, other, keys, using), using)


def _changed(live: type[Model], instance: Model, using: str) -> None:
    if _is_ancestor(type(instance), live):
        _tell(live, _rows(live, type(instance), [instance.pk], using), using)
    elif isinstance(instance, live) and _concrete(type(instance)) is _concrete(live):
        _tell(live, instance, using)
    else:
        names = [field.attname for field in live._meta.concrete_fields if field.attname in instance.__dict__]
        _tell(live, live.from_db(using, names, [instance.__dict__[name] for name in names]), using)


def _tell(live: type[Model], shown: Model | QuerySet[Model], using: str) -> None:
    """A name that a topic cannot have must not fail the caller's save."""
    try:
        changed(shown, using=using)
    except InvalidInput as exc:
        if isinstance(shown, QuerySet):
            for row in shown:
                _tell(live, row, using)
        else:
            publisher.current().failures.failed(exc, f"a change of {live._meta.label} has no topic: {exc}")


def _rows(live: type[Model], model: type[Model], keys: Iterable[Any], using: str) -> QuerySet[Model]:
    """The rows of the live model that belong to these keys of a class which shares them."""
    if _is_ancestor(live, model):
        rows = model._base_manager.using(using).filter(pk__in=keys)
        keys = list(rows.values_list(_key(live), flat=True))
        model = live
    return live._base_manager.using(using).filter(**{f"{_key(model)}__in": keys})


def _related_keys(
    through: type[Model], instance: Model, other: type[Model], using: str, *, reverse: bool
) -> Iterator[Any]:
    """The keys of the other side of a many-to-many relation."""
    owner = other if reverse else type(instance)
    for field in owner._meta.many_to_many:
        if field.remote_field.through is through:
            name = field.name if reverse else field.related_query_name()
            yield from other._base_manager.using(using).filter(**{name: instance}).values_list("pk", flat=True)


def _shares_rows(live: type[Model], model: type[Model]) -> bool:
    return _concrete(model) is _concrete(live) or _is_ancestor(model, live) or _is_ancestor(live, model)


def _is_ancestor(model: type[Model], of: type[Model]) -> bool:
    """Whether the rows of `of` have a part in the table of `model`, in multi-table inheritance."""
    return _concrete(model) in _concrete(of)._meta.get_parent_list()


def _concrete(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def _key(model: type[Model]) -> str:
    """The key's attribute, which children inherit."""
    return str(model._meta.pk.attname)
