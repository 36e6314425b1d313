"""Who reads which language: recipients by the language of their texts.

A language is known where the function of `NOTIFIER["USER_LANGUAGE"]` says one; elsewhere it is the active one. Must not
know: messages, tasks.
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
from django_bridge.recipients import CHUNK, channels, find_user, is_key

Found = tuple[str, Any]
"""A channel, and its user where it is one."""


def speaking(user: Any) -> AbstractContextManager[object]:
    """Lazy translations become text in the language of this user (or of its key) where it is known."""
    if not settings().user_language:
        return nullcontext()
    return override(_language(find_user(user) if is_key(user) else user))


def override(language: str) -> AbstractContextManager[object]:
    """Lazy translations become text in this language; "" is the active one."""
    return translation.override(language) if language else nullcontext()


def by_language(to: object, field: str) -> Mapping[str, list[str]]:
    """The channels of recipients by language; "" is the active one. Raises `InvalidInput`.

    A QuerySet is read in one pass, keys are looked up in chunks.
    """
    found: dict[str, list[str]] = {}
    if not settings().user_language:
        return {"": list(channels(to, field))}
    for channel, user in _users(to, field):
        found.setdefault(_language(user), []).append(channel)
    return found


def _language(user: Any) -> str:
    """What the project's function says; for a group, for everybody and for users that are not found, nothing."""
    if not isinstance(user, get_user_model()):
        return ""
    return str(import_string(settings().user_language)(user) or "")


def _users(to: object, field: str) -> Iterator[Found]:
    if isinstance(to, Manager):
        to = to.all()
    if (
        isinstance(to, QuerySet)
        and issubclass(to.model, get_user_model())
        and issubclass(to._iterable_class, ModelIterable)
    ):
        rows = to if to._result_cache is not None else to.iterator(chunk_size=CHUNK)
        for user in rows:
            yield from _one(user, field)
    elif is_key(to) or not isinstance(to, Iterable):
        yield from _with_users([(one, to) for one in channels(to, field)])
    else:
        found = _each(to, field)
        while chunk := list(islice(found, CHUNK)):
            yield from _with_users(chunk)


def _each(to: Iterable[object], field: str) -> Iterator[Found]:
    for i, one in enumerate(to):
        if isinstance(one, Iterable) and not is_key(one):
            yield from _users(one, f"{field}[{i}]")
        else:
            yield from _one(one, f"{field}[{i}]")


def _one(one: object, field: str) -> Iterator[Found]:
    for channel in channels(one, field):
        yield channel, one


def _with_users(found: list[Found]) -> Iterator[Found]:
    """Keys replaced by their users: one query for all of them."""
    model = get_user_model()
    keys = [one for _, one in found if is_key(one)]
    users = model._default_manager.in_bulk(keys) if keys else {}
    for channel, one in found:
        yield channel, users.get(model._meta.pk.to_python(one)) if is_key(one) else one
