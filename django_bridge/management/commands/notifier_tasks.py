"""`manage.py notifier_tasks`: updates the rows of silent producers from the service."""

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
        checked = check_tasks(quiet_s=options["quiet_for"])
        self.stdout.write(f"{checked.quiet} quiet, {checked.changed} changed, {checked.lost} lost")
        if checked.error:
            raise CommandError(f"not all tasks could be checked: {checked.error}")
