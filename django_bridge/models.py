"""The state of every task, in the project's own database. Written by `records`; the browser reads the notifier."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class TaskRecord(models.Model):
    """One run of a `Task`, as it was last known here."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        CANCELLING = "cancelling", _("cancelling")
        STALLED = "stalled", _("stalled")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    id = models.CharField(_("id"), max_length=64, primary_key=True)
    name = models.CharField(_("name"), max_length=255)
    # Without a constraint in the database: a key that names nobody must not fail the caller's commit.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        null=True,
        on_delete=models.CASCADE,
        db_constraint=False,
        related_name="+",
    )
    to = models.JSONField(_("recipients"), default=list)
    status = models.CharField(_("status"), max_length=16, choices=Status.choices, db_index=True)
    state = models.TextField(_("state"), blank=True)
    done = models.PositiveBigIntegerField(_("done"), default=0)
    total = models.PositiveBigIntegerField(_("total"), null=True)
    error = models.TextField(_("error"), blank=True)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False)
    started_at = models.DateTimeField(_("started at"), db_index=True)
    updated_at = models.DateTimeField(_("updated at"))
    ended_at = models.DateTimeField(_("ended at"), null=True)

    class Meta:
        ordering = ("-started_at",)
        verbose_name = _("task")
        verbose_name_plural = _("tasks")

    def __str__(self) -> str:
        return self.name

    @property
    def percent(self) -> int | None:
        """0-100, rounded down; None while the total is unknown."""
        if self.total is None:
            return None
        return 100 if self.done >= self.total else self.done * 100 // self.total
