"""Primary keys as text, for the names of topics. A composite key (`CompositePrimaryKey` of Django 5.2) is JSON.

Must not know: topics, grants.
"""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Model


def text_of(model: type[Model], key: Any) -> str:
    """The text of a key of the model. A key that is text of another form, as of an instance that was created with it,
    has the same. Raises `ValueError` or `ValidationError` for what is no key of it."""
    pk: Any = model._meta.pk
    fields = getattr(pk, "fields", None)
    if fields is None:
        return str(pk.to_python(key))
    parts = [field.to_python(part) for field, part in zip(fields, key, strict=True)]
    return json.dumps(parts, default=str, ensure_ascii=False, separators=(",", ":"))


def key_of(model: type[Model], text: str) -> Any:
    """What a query finds the row with. Raises `ValueError` or `ValidationError` for what is no text of a key."""
    fields = getattr(model._meta.pk, "fields", None)
    if fields is None:
        return text
    parts = json.loads(text)
    if not isinstance(parts, list):
        raise ValueError("is no list of the key's parts")  # a value, not a type, of the caller's
    return tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))


def is_set(key: Any) -> bool:
    """Whether a row may have this key: no part of it is missing."""
    return None not in (key if isinstance(key, tuple) else (key,))
