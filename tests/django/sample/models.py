"""The model that the original description walks through."""

from __future__ import annotations

from django.db import models


class SimpleModel(models.Model):
    title = models.CharField(max_length=50)

    class Meta:
        app_label = "sample"

    def __str__(self) -> str:
        return self.title
