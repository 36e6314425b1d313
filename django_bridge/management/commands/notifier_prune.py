"""`manage.py notifier_prune`: removes what is old from the database. For cron."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from django_bridge import history


class Command(BaseCommand):
    help = "Removes old tasks, kept messages and refused messages from the database. Several may run at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tasks", type=float, metavar="DAYS", help="tasks that ended, or went silent, before that")
        parser.add_argument("--messages", type=float, metavar="DAYS", help="kept messages that were sent before that")
        parser.add_argument("--failed", type=float, metavar="DAYS", help="messages of the outbox that were refused")
        parser.add_argument("--dry-run", action="store_true", help="say how many there are, and remove nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        kinds = {"tasks": history.old_tasks, "messages": history.old_messages, "failed": history.old_failures}
        wanted = {name: find(_age(name, options[name])) for name, find in kinds.items() if options[name] is not None}
        if not wanted:
            raise CommandError("Say what is old: --tasks, --messages or --failed, each with a number of days.")
        for name, rows in wanted.items():
            count = rows.count() if options["dry_run"] else self._removed(rows)
            self.stdout.write(f"{name}: {count} {'would be removed' if options['dry_run'] else 'removed'}")

    def _removed(self, rows: QuerySet[Any]) -> int:
        return sum(history.remove_in_batches(rows))


def _age(name: str, days: float) -> timedelta:
    # Without a floor, a slip of the hand would remove the tasks that run.
    if not 0.04 <= days <= 36500:
        raise CommandError(f"--{name} {days:g}: at least 0.04 days (an hour), at most 36500.")
    return timedelta(days=days)
