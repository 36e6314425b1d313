"""The model that the original description walks through."""

from __future__ import annotations

import django
from django.db import models


class SimpleModel(models.Model):
    title = models.CharField(max_length=50)

    class Meta:
        app_label = "sample"

    def __str__(self) -> str:
        return self.title


if django.VERSION >= (5, 2):

    class Part(models.Model):
        """Its key has columns of three kinds."""

        pk = models.CompositePrimaryKey("batch", "owner", "label")
        batch = models.UUIDField()
        owner = models.ForeignKey(SimpleModel, models.CASCADE, related_name="+")
        label = models.CharField(max_length=20)
        title = models.CharField(max_length=50, default="")

        class Meta:
            app_label = "sample"

        def __str__(self) -> str:
            return self.title
