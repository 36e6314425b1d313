"""Live models: one with an owner; and those that share rows: a parent with a child and a grandchild, proxies, and
relations from both sides."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import Group, User
from django.db import models


class Order(models.Model):
    title = models.CharField(max_length=50)
    customer = models.ForeignKey(User, models.CASCADE, related_name="+")

    class Meta:
        app_label = "sample"

    def __str__(self) -> str:
        return self.title


class Place(models.Model):
    name = models.CharField(max_length=50)
    groups = models.ManyToManyField(Group, related_name="places")
    near = models.ManyToManyField("self")

    class Meta:
        app_label = "sample"

    def __str__(self) -> str:
        return self.name


class Cafe(Place):
    place = models.OneToOneField(Place, models.CASCADE, parent_link=True, related_name="cafe")
    tables = models.IntegerField(default=0)

    class Meta:
        app_label = "sample"


class Roastery(Cafe):
    class Meta:
        app_label = "sample"


class PlaceProxy(Place):
    class Meta:
        app_label = "sample"
        proxy = True


class CafeProxy(Cafe):
    class Meta:
        app_label = "sample"
        proxy = True

    @property
    def live_topic(self) -> str:
        return f"cafe:{self.pk}"


class Ticket(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    holders = models.ManyToManyField(User, related_name="+")

    class Meta:
        app_label = "sample"


class Link(models.Model):
    url = models.CharField(primary_key=True, max_length=500)

    class Meta:
        app_label = "sample"


class Stamped(models.Model):
    class Meta:
        abstract = True
