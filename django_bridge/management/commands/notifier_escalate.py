"""`manage.py notifier_escalate`: sends the signals `message_read` and `message_unread_for`, for cron."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_bridge.conf import settings
from django_bridge.escalation import MAX_AGE, UNREAD_FOR, escalate


class Command(BaseCommand):
    help = (
        "Sends message_unread_for for kept messages whose reader has neither read them nor been online for some "
        "minutes, and message_read. Several may run at once. The Celery task does the same."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        minutes = UNREAD_FOR.total_seconds() / 60
        parser.add_argument(
            "--unread-for", type=float, metavar="MINUTES", default=minutes, help="%(default)g by default"
        )
        parser.add_argument(
            "--max-age",
            type=float,
            metavar="DAYS",
            default=MAX_AGE.days,
            help="older messages are left out (%(default)g)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings().keep_messages:
            raise CommandError("NOTIFIER['KEEP_MESSAGES'] is off: there are no rows of messages to follow.")
        run = escalate(timedelta(minutes=options["unread_for"]), max_age=timedelta(days=options["max_age"]))
        self.stdout.write(f"{run.checked} checked, {run.unread} unread, {run.read} read, {run.gone} gone")
        if run.error or run.failed:
            raise CommandError(run.error or f"receivers failed for {run.failed} messages, see the log")
