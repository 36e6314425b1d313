"""A custom user model: identified by its mail address, with a UUID key and no groups."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Person(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    mail = models.EmailField(unique=True)
    language = models.CharField(max_length=8)
    is_superuser = models.BooleanField(default=False)

    USERNAME_FIELD = "mail"

    class Meta:
        app_label = "people"


def language_of(person: Person) -> str:
    return person.language


def id_of(person: Person) -> str:
    return person.mail
