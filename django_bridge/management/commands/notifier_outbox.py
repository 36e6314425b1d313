"""`manage.py notifier_outbox`: delivers the messages of the outbox, once or continuously."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, close_old_connections

from django_bridge.delivery import DeliveryRun, deliver_all
from django_bridge.outbox import waiting

POLL_S: Final = 1.0
"""Interval of the queries while the outbox is empty."""
LONGEST_PAUSE_S: Final = 30.0
"""Upper bound of the pause between two tries while the service or the database is away."""


class Command(BaseCommand):
    help = "Delivers the messages that wait in the outbox. Several may run at once; the Celery task does the same."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--follow", action="store_true", help="run until SIGTERM or SIGINT")
        parser.add_argument("--count", action="store_true", help="print how many messages wait, and deliver nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["count"]:
            self.stdout.write("{waiting:.0f} waiting, {failed:.0f} failed; oldest {oldest_s} s".format(**waiting()))
        elif options["follow"]:
            with _stopped_by_signals() as stop:
                self._follow(stop)
        else:
            run = deliver_all()
            self._print(run)
            if run.error:
                raise CommandError(f"{waiting()['waiting']:.0f} messages wait: {run.error}")

    def _follow(self, stop: threading.Event) -> None:
        self.stdout.write("delivering the outbox")
        self.stdout.flush()
        pause_s = POLL_S
        while not stop.is_set():
            close_old_connections()
            try:
                run = deliver_all(stop.is_set)
            except Error as exc:
                run = DeliveryRun(error=f"{type(exc).__name__}: {exc}")
            self._print(run)
            if run.error:
                self.stderr.write(f"trying again: {run.error}")
                stop.wait(random.uniform(pause_s / 2, pause_s))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                pause_s = POLL_S
                stop.wait(POLL_S)
        self.stdout.write("stopped")

    def _print(self, run: DeliveryRun) -> None:
        if any(run.counts().values()):
            self.stdout.write("{delivered} delivered, {expired} expired, {failed} failed".format(**run.counts()))
            self.stdout.flush()


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that the current message is completed before the command ends."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
