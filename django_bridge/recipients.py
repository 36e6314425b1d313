"""Conversion of Django's users and groups to channels and senders.

Must not know: messages, tasks, transports.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Manager, Model, QuerySet
from django.db.models.query import ModelIterable
from django.utils.module_loading import import_string

from django_bridge.conf import settings
from notifier import rules
from notifier.errors import InvalidInput

CHUNK: Final = 2000
"""Rows fetched at a time from a QuerySet of recipients."""


class _All(enum.Enum):
    ALL = "all"

    def __repr__(self) -> str:
        return "ALL"


ALL: Final = _All.ALL
"""All users."""


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """A group by name, as `group` returns it."""

    name: str


def group(name: str) -> NamedGroup:
    """All users whose token contains this group: a Django group's name or your own. Raises `InvalidInput`."""
    return NamedGroup(rules.name(name, "group"))


@dataclass(frozen=True, slots=True)
class NamedTopic:
    """A topic by name, as `topic` returns it."""

    name: str


def topic(name: str) -> NamedTopic:
    """The pages that show a topic now, such as `topic("order:42")`. Raises `InvalidInput`."""
    return NamedTopic(rules.name(name, "topic"))


def user_id(user: Any, field: str = "user") -> str:
    """A user's id on the wire: `str(user.pk)`, or the result of the function `NOTIFIER["USER_ID"]`."""
    if user.pk is None:
        raise InvalidInput("is a user that was never saved", field=field)
    path = settings().user_id
    return rules.name(import_string(path)(user) if path else str(_own_key(user)), field)


def _own_key(user: Any) -> Any:
    """A user's key by the type of its field: an instance that was created with a key as text keeps the text."""
    return user._meta.pk.to_python(user.pk) if hasattr(user, "_meta") else user.pk


def user_name(user: Any) -> str:
    """A user's display name: the full name, else the user name; cut to the length that a message allows."""
    full_name = getattr(user, "get_full_name", str)() or user.get_username()
    return str(full_name)[: rules.MAX_TITLE_CHARS]


def is_anonymous(user: object) -> bool:
    return getattr(user, "is_anonymous", False) is True


def channels(to: object, field: str = "to_users") -> Iterator[str]:
    """The channels of a user, a primary key, a group, `group(...)`, `topic(...)`, `ALL`, a QuerySet, or any iterable of
    these.

    Of a QuerySet of users only primary keys are read, in chunks. Raises `InvalidInput`.
    """
    from django.contrib.auth.models import Group

    if to is ALL:
        yield "all"
    elif isinstance(to, NamedGroup):
        yield f"group:{to.name}"
    elif isinstance(to, NamedTopic):
        yield f"topic:{to.name}"
    elif isinstance(to, Group):
        yield f"group:{rules.name(to.name, field)}"
    elif isinstance(to, Model) or is_anonymous(to):
        yield f"user:{_id_of(to, field)}"
    elif isinstance(to, str | int | uuid.UUID):
        yield f"user:{_id_of_key(to, field)}"
    elif isinstance(to, Manager):
        yield from channels(to.all(), field)
    elif isinstance(to, QuerySet):
        yield from _channels_of_rows(to, field)
    elif isinstance(to, Iterable) and not isinstance(to, bytes | Mapping):
        for i, item in enumerate(to):
            yield from channels(item, f"{field}[{i}]")
    else:
        raise InvalidInput(
            "must be a user, a primary key, a Group, group(...), topic(...), ALL, a QuerySet or an iterable of these, "
            f"not {rules.shown(to)}",
            field=field,
        )


def sender(from_user: object, field: str = "from_user") -> dict[str, str] | None:
    """The sender of a message, as on the wire; None for the system and for anonymous users.

    A primary key costs a query for the name. Raises `InvalidInput`.
    """
    if from_user is None or is_anonymous(from_user):
        return None
    user = from_user if isinstance(from_user, Model) else _find(from_user, field)
    if user is None:
        return {"id": _id_of_key(from_user, field)}
    return {"id": _id_of(user, field), "name": user_name(user)}


def is_key(value: object) -> TypeGuard[str | int | uuid.UUID]:
    """Whether the value has the type of a primary key."""
    return isinstance(value, str | int | uuid.UUID)


def find_user(key: object, field: str = "user") -> Any:
    """The user with this primary key, or None. Raises `InvalidInput`."""
    return _find(key, field)


def user_of(user: Any, field: str = "user") -> Any:
    """The user given as itself or as its key. Raises `InvalidInput` for a key without a user."""
    if not is_key(user):
        return user
    row = _find(user, field)
    if row is None:
        raise InvalidInput(f"is not the key of a user: {rules.shown(user)}", field=field)
    return row


def user_key(user: object, field: str = "from_user") -> Any:
    """The primary key of a user given as itself, as its key or as None."""
    if user is None or is_anonymous(user):
        return None
    if isinstance(user, Model):
        _id_of(user, field)
        return user.pk
    return _key(user, field)


def _channels_of_rows(rows: QuerySet[Any], field: str) -> Iterator[str]:
    from django.contrib.auth.models import Group

    if not issubclass(rows._iterable_class, ModelIterable):
        for i, key in enumerate(rows.iterator(chunk_size=CHUNK)):
            yield from channels(key, f"{field}[{i}]")
    elif issubclass(rows.model, Group):
        for name in rows.values_list("name", flat=True).iterator(chunk_size=CHUNK):
            yield f"group:{rules.name(name, field)}"
    elif not issubclass(rows.model, get_user_model()):
        raise InvalidInput(f"is a QuerySet of {rows.model._meta.label}, not of users or groups", field=field)
    elif rows._result_cache is not None or settings().user_id:
        users = rows if rows._result_cache is not None else rows.iterator(chunk_size=CHUNK)
        yield from (f"user:{user_id(user, field)}" for user in users)
    else:
        for key in rows.values_list("pk", flat=True).iterator(chunk_size=CHUNK):
            yield f"user:{rules.name(str(key), field)}"


def _is_user(value: object) -> TypeGuard[Any]:
    return isinstance(value, get_user_model())


def _id_of(user: object, field: str) -> str:
    if is_anonymous(user):
        raise InvalidInput("is anonymous and cannot be a recipient", field=field)
    if not _is_user(user):
        # The key of another model would address the user with the same number.
        raise InvalidInput(f"is a {type(user).__name__}, not a user", field=field)
    return user_id(user, field)


def _id_of_key(value: object, field: str) -> str:
    key = _key(value, field)
    if not settings().user_id:
        return rules.name(str(key), field)
    user = _find(key, field)
    if user is None:
        raise InvalidInput(f"is not the key of a user: {rules.shown(value)}", field=field)
    return user_id(user, field)


def _key(value: object, field: str) -> Any:
    """A primary key as the user model's field stores it, so that "42" and 42 are the same user."""
    key_field = get_user_model()._meta.pk
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | uuid.UUID):
            raise ValidationError("not a key")
        return key_field.to_python(value)
    except (ValidationError, ValueError, TypeError, OverflowError):
        hint = "; for all users use ALL, for a group group(...)" if isinstance(value, str) else ""
        raise InvalidInput(f"is not a primary key of a user: {rules.shown(value)}{hint}", field=field) from None


def _find(value: object, field: str) -> Any:
    from django_bridge.models import written

    try:
        return written(get_user_model()).filter(pk=_key(value, field)).first()
    except OverflowError:  # SQLite before Django 5: a number out of the range of keys
        return None
