"""The tables in the project's database: the state of every task, the outbox, and with `KEEP_MESSAGES` all messages.

Written by `task.records` and `task.share`, by `outbox` and `delivery`, and by `history`. Browsers get their data from
the service instead.
"""

from __future__ import annotations

import enum
from typing import TypeVar

from django.conf import settings
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from notifier.task import percent_done

M = TypeVar("M", bound=models.Model)


def written(model: type[M]) -> models.QuerySet[M]:
    """The rows of a table, read from the database that they are written to: a read replica may lack the newest."""
    return model._default_manager.using(router.db_for_write(model))


class TaskRecord(models.Model):
    """One run of a `Task`: its last state known to this project."""

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
    # No constraint in the database: a key without a user must not fail the caller's commit.
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
    # For staff: users see `error`. Null: written by a process of the version before, while both run.
    traceback = models.TextField(_("traceback"), blank=True, default="", null=True)  # as said above
    # Where the result is, and the text of the button. Null as in `traceback`.
    url = models.CharField(_("URL"), max_length=2048, blank=True, default="", null=True)  # as said above
    url_text = models.CharField(_("text of the link"), max_length=255, blank=True, default="", null=True)
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
        """As in the service: see `notifier.task.percent_done`."""
        return percent_done(self.status, self.done, self.total)


class TaskShare(models.Model):
    """The progress of one worker's part of a task, by which a repeated run knows what is counted already."""

    # No constraint in the database: the task's row may be in a transaction that is not committed yet.
    task = models.ForeignKey(
        TaskRecord, verbose_name=_("task"), on_delete=models.CASCADE, db_constraint=False, related_name="shares"
    )
    key = models.CharField(_("key"), max_length=200)
    counted = models.PositiveBigIntegerField(_("counted"), default=0)
    # The part of `counted` that the service has. It is less where a process ended before it reported the rest.
    told = models.PositiveBigIntegerField(_("told"), default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("task", "key"), name="notifier_share_once"),)
        verbose_name = _("share of a task")
        verbose_name_plural = _("shares of tasks")

    def __str__(self) -> str:
        return f"{self.key}: {self.counted}"


class OutboxMessage(models.Model):
    """A message of the outbox (`NOTIFIER["OUTBOX"]`). Rows of delivered messages are deleted."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENDING = "sending", _("sending")
        FAILED = "failed", _("failed")

    message_id = models.CharField(_("message id"), max_length=64, unique=True)
    # Text instead of a JSONField: jsonb changes the order of keys, but a repeat must have the same bytes, since the
    # service compares them by idempotency key.
    payload = models.TextField(_("payload"))
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.WAITING, db_index=True)
    # WAITING: the earliest time of the next try. SENDING: the end of the deliverer's lease.
    due_at = models.DateTimeField(_("due at"), default=timezone.now)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.TextField(_("error"), blank=True)
    # The process that wrote the message; messages of one process are delivered in order.
    origin = models.CharField(_("origin"), max_length=32)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        ordering = ("pk",)
        verbose_name = _("waiting message")
        verbose_name_plural = _("waiting messages")

    def __str__(self) -> str:
        return self.message_id


class MessageRecord(models.Model):
    """A message as it was sent (`NOTIFIER["KEEP_MESSAGES"]`). Read marks are kept by the service."""

    class Level(models.TextChoices):
        DEBUG = "debug", _("debug")
        INFO = "info", _("info")
        SUCCESS = "success", _("success")
        WARNING = "warning", _("warning")
        ERROR = "error", _("error")

    id = models.CharField(_("id"), max_length=64, primary_key=True)
    sender_id = models.CharField(_("sender's id"), max_length=128, blank=True)
    sender_name = models.CharField(_("sender"), max_length=255, blank=True)
    subject = models.CharField(_("subject"), max_length=255)
    text = models.TextField(_("text"), blank=True)
    level = models.CharField(_("level"), max_length=16, choices=Level.choices, default=Level.INFO, db_index=True)
    url = models.CharField(_("URL"), max_length=2048, blank=True)
    data = models.JSONField(_("data"), default=dict)
    # Fields of the message without a column of their own, by name, so that a new field needs no migration. Null:
    # written by a process of the version before, while both run.
    more = models.JSONField(_("more"), default=dict, null=True, blank=True)
    sent_at = models.DateTimeField(_("sent at"), db_index=True)
    expires_at = models.DateTimeField(_("expires at"), null=True)
    # Null: written by a process of the version before, while both run, or before; not escalated.
    created_at = models.DateTimeField(_("created at"), default=timezone.now, null=True, db_index=True)

    class Meta:
        ordering = ("-sent_at", "-id")
        verbose_name = _("message")
        verbose_name_plural = _("messages")

    def __str__(self) -> str:
        return self.subject


class MessageRecipient(models.Model):
    """A channel that a kept message was sent to: `user:42`, `group:staff` or `all`."""

    message = models.ForeignKey(
        MessageRecord, verbose_name=_("message"), on_delete=models.CASCADE, related_name="recipients"
    )
    channel = models.CharField(_("recipient"), max_length=140, db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("message", "channel"), name="notifier_recipient_once"),)
        verbose_name = _("recipient")
        verbose_name_plural = _("recipients")

    def __str__(self) -> str:
        return self.channel


class MessageOutcome(models.Model):
    """What became of a kept message to a user, where `manage.py notifier_escalate` has seen it."""

    class State(enum.StrEnum):
        UNREAD = "unread"
        """`message_unread_for` was sent."""
        READ = "read"
        GONE = "gone"
        FAILING = "failing"
        """A receiver of `message_unread_for` raised: the next run sends it again."""
        FAILED = "failed"
        """Receivers raised in too many runs: no signal is sent any more."""

    # No constraint in the database: a message may be retracted while its outcome is written. No cascade either: Django
    # would read every recipient before it deletes them. `notifier_prune` removes what is left.
    recipient = models.OneToOneField(
        MessageRecipient,
        verbose_name=_("recipient"),
        on_delete=models.DO_NOTHING,
        primary_key=True,
        db_constraint=False,
        related_name="outcome",
    )
    state = models.CharField(_("state"), max_length=16)
    # Runs in which receivers of the next signal failed. Null: written by a process of the version before.
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, null=True)

    def __str__(self) -> str:
        return self.state
