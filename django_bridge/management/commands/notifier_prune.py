"""`manage.py notifier_prune`: removes old rows from the database, for cron."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from django_bridge import history


class Command(BaseCommand):
    help = "Removes old tasks, kept messages and refused messages from the database. Several may run at once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tasks", type=float, metavar="DAYS", help="tasks without a change for so many days")
        parser.add_argument("--messages", type=float, metavar="DAYS", help="kept messages sent so many days ago")
        parser.add_argument(
            "--failed", type=float, metavar="DAYS", help="refused messages of the outbox, so many days old"
        )
        parser.add_argument("--dry-run", action="store_true", help="print how many rows there are, and remove nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        kinds = {"tasks": history.old_tasks, "messages": history.old_messages, "failed": history.old_failures}
        chosen = {name: query(_age(name, options[name])) for name, query in kinds.items() if options[name] is not None}
        if not chosen:
            raise CommandError("Nothing to remove: give --tasks, --messages or --failed, each with a number of days.")
        for name, rows in chosen.items():
            count = rows.count() if options["dry_run"] else self._removed(rows)
            if name == "messages" and not options["dry_run"]:
                history.remove_lost_outcomes()
            self.stdout.write(f"{name}: {count} {'would be removed' if options['dry_run'] else 'removed'}")

    def _removed(self, rows: QuerySet[Any]) -> int:
        return sum(history.remove_in_batches(rows))


def _age(name: str, days: float) -> timedelta:
    # The lower bound keeps a typing error from removing running tasks.
    if not 0.04 <= days <= 36500:
        raise CommandError(f"--{name} {days:g}: at least 0.04 days (an hour), at most 36500.")
    return timedelta(days=days)
