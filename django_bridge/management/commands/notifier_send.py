"""`manage.py notifier_send`: sends a message; it is delivered when the command ends."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_bridge import ALL, Message, group, publisher
from django_bridge.conf import settings
from notifier.errors import NotifierError
from notifier.message import FIELDS, REQUIRED

_OPTIONS: Final = tuple(field for field in FIELDS if field.option)


class Command(BaseCommand):
    help = "Sends a message to users, groups or all users, and prints its id. Fails if it cannot be delivered."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("users", nargs="*", metavar="USER", help="a user's login name")
        parser.add_argument("--pk", action="append", default=[], help="a user's primary key; may be repeated")
        parser.add_argument("--group", action="append", default=[], help="a group's name; may be repeated")
        parser.add_argument("--all", action="store_true", help="all users")
        for field in _OPTIONS:
            parser.add_argument(
                f"--{field.name}",
                required=field.default is REQUIRED,
                default=None if field.default is REQUIRED else field.default,
                choices=field.choices or None,
                help=field.description + (" - reads it from the standard input." if field.name == "text" else ""),
            )
        parser.add_argument("--from", dest="sender", metavar="USER", help="the name of the user it is from")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings().transport == "memory":
            raise CommandError("NOTIFIER['TRANSPORT'] is 'memory': the message would reach no browser.")
        try:
            payload = _message(options).payload()
            publisher.current().deliver(payload)
        except NotifierError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(payload["id"])


def _message(options: dict[str, Any]) -> Message:
    to = [*map(user_named, options["users"]), *options["pk"], *map(group, options["group"]), *[ALL] * options["all"]]
    if not to:
        raise CommandError("No recipients: give user names, --pk, --group or --all.")
    return Message(
        to_users=to,
        from_user=options["sender"] and user_named(options["sender"]),
        **{field.name: options[field.name] for field in _OPTIONS}
        | {"text": sys.stdin.read() if options["text"] == "-" else options["text"], "data": _object(options["data"])},
    )


def user_named(name: str) -> Any:
    """The user with this login name. Raises `CommandError`."""
    model: Any = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        raise CommandError(f"There is no user {name!r}.") from None


def _object(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError as exc:
        raise CommandError(f"--data is not JSON: {exc}") from None
