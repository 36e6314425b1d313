"""`manage.py notifier_tasks`: brings the rows of silent tasks to what the service knows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_bridge.task.reconcile import QUIET_S, check_tasks


class Command(BaseCommand):
    help = (
        "Rows of tasks whose process died become stalled or failed, as in the browser. The Celery task does the same."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quiet-for", type=float, default=QUIET_S, help="seconds without a change (%(default)g)")

    def handle(self, *args: Any, **options: Any) -> None:
        found = check_tasks(quiet_s=options["quiet_for"])
        self.stdout.write(f"{found.quiet} quiet, {found.changed} changed, {found.lost} lost")
        if found.error:
            raise CommandError(f"not all could be asked for: {found.error}")
