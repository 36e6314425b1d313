"""Recipients by the language of their texts.

A user's language is the result of the function `NOTIFIER["USER_LANGUAGE"]`; where it gives none, the active language.
Must not know: messages, tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Manager, QuerySet
from django.db.models.query import ModelIterable
from django.utils import translation
from django.utils.module_loading import import_string

from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.recipients import CHUNK, channels, find_user, is_key

Recipient = tuple[str, Any]
"""A channel, and the user (or its key) that it belongs to; for other channels, the recipient as it was given."""


@outside_loop
def speaking(user: Any) -> AbstractContextManager[object]:
    """A block in which lazy translations are rendered in the language of this user, given as itself or as its key."""
    if not settings().user_language:
        return nullcontext()
    return override(_language(find_user(user) if is_key(user) else user))


def override(language: str) -> AbstractContextManager[object]:
    """A block in which lazy translations are rendered in this language; "" is the active one."""
    return translation.override(language) if language else nullcontext()


def by_language(to: object, field: str) -> Mapping[str, list[str]]:
    """The channels of recipients by language; "" is the active one. Raises `InvalidInput`.

    A QuerySet is read in one pass, keys are looked up in chunks.
    """
    if not settings().user_language:
        return {"": list(channels(to, field))}
    result: dict[str, list[str]] = {}
    for channel, user in _users(to, field):
        result.setdefault(_language(user), []).append(channel)
    return result


def _language(user: Any) -> str:
    """The result of the project's function; "" for groups, for `ALL` and for keys without a user."""
    if not isinstance(user, get_user_model()):
        return ""
    return str(import_string(settings().user_language)(user) or "")


def _users(to: object, field: str) -> Iterator[Recipient]:
    if isinstance(to, Manager):
        to = to.all()
    if (
        isinstance(to, QuerySet)
        and issubclass(to.model, get_user_model())
        and issubclass(to._iterable_class, ModelIterable)
    ):
        rows = to if to._result_cache is not None else to.iterator(chunk_size=CHUNK)
        for user in rows:
            yield from _channels_with(user, field)
    elif is_key(to) or not isinstance(to, Iterable):
        yield from _with_users([(channel, to) for channel in channels(to, field)])
    else:
        recipients = _each(to, field)
        while chunk := list(islice(recipients, CHUNK)):
            yield from _with_users(chunk)


def _each(to: Iterable[object], field: str) -> Iterator[Recipient]:
    for i, item in enumerate(to):
        if isinstance(item, Iterable) and not is_key(item):
            yield from _users(item, f"{field}[{i}]")
        else:
            yield from _channels_with(item, f"{field}[{i}]")


def _channels_with(recipient: object, field: str) -> Iterator[Recipient]:
    for channel in channels(recipient, field):
        yield channel, recipient


def _with_users(recipients: list[Recipient]) -> Iterator[Recipient]:
    """The recipients with keys replaced by their users, by one query; an unknown key by None."""
    from django_bridge.models import written

    model = get_user_model()
    keys = [user for _, user in recipients if is_key(user)]
    users = written(model).in_bulk(keys) if keys else {}
    for channel, user in recipients:
        yield channel, users.get(model._meta.pk.to_python(user)) if is_key(user) else user
