"""`manage.py notifier_run`: a management command or another program as a task, with owner, bar and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management import get_commands
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_bridge import Task, TaskCancelled, group
from django_bridge.conf import settings
from django_bridge.management.commands.notifier_send import user_named
from notifier.errors import NotifierError
from notifier.programs import PERCENT, SIGTERM_CODE, raising_on_sigterm


class Command(BaseCommand):
    help = (
        "Runs a command of manage.py, or another program, as a task: its output, its percentages and its end are shown "
        "to users, and a cancel or SIGTERM terminates it. The exit code is that of the command."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the task's name")
        parser.add_argument("--user", help="the login name of the user whose task it is")
        parser.add_argument("--pk", help="the same by the user's primary key")
        parser.add_argument("--group", action="append", default=[], help="a group that sees the task; may be repeated")
        parser.add_argument("--percent", default=PERCENT, help="a pattern whose first group is a percentage")
        parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="a command of manage.py, or a program")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings().transport == "memory":
            raise CommandError("NOTIFIER['TRANSPORT'] is 'memory': the task would reach no browser.")
        owner = user_named(options["user"]) if options["user"] else options["pk"]
        to = [*([owner] if owner else []), *map(group, options["group"])]
        if not to:
            raise CommandError("No one to show the task to: give --user, --pk or --group.")
        command, env = program_of(options["command"])
        try:
            task = Task(task_name=options["name"], from_user=owner, to_users=to)
            with raising_on_sigterm(), task:
                code = task.run(command, percent=options["percent"], env=env)
        except TaskCancelled:
            raise CommandError("A user cancelled the task.", returncode=SIGTERM_CODE) from None
        except (NotifierError, OSError) as exc:
            raise CommandError(str(exc)) from exc
        if code:
            shown = options["command"][0]
            raise CommandError(f"{shown} ended with the exit code {code}.", returncode=code if code > 0 else 128 - code)


def program_of(words: list[str]) -> tuple[list[str], Mapping[str, str] | None]:
    """The program and its environment: a command of manage.py runs in this project."""
    if words[0] not in get_commands():
        return words, None
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONUNBUFFERED": "1",
    }
    return [sys.executable, "-m", "django", *words], env
