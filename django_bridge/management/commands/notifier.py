"""`manage.py notifier`: `runserver` with the service beside it. For development.

The service is started once, by the outer of runserver's two processes: when the code is reloaded it stays, with its
open streams. Must not know: how the service ends with its parent (see `service`).
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.commands.runserver import naiveip_re
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

from django_bridge.conf import Settings, settings
from django_bridge.service import ServiceNotStarted, ServiceProcess, environment

LOCAL: Final = ("127.0.0.1", "localhost", "::1")


class Command(BaseCommand):
    help = "Runs the development server with the notifier's service beside it, at NOTIFIER['URL']. Ctrl-C ends both."
    requires_system_checks = ()  # runserver makes them, after each reload
    suppressed_base_arguments = {"--verbosity", "--traceback"}  # noqa: RUF012  # as Django has it

    def add_arguments(self, parser: CommandParser) -> None:
        app: Any = get_commands()["runserver"]
        self.runserver: Any = app if isinstance(app, BaseCommand) else load_command_class(app, "runserver")
        self.runserver.add_arguments(parser)
        parser.add_argument("--alone", action="store_true", help="Only the service, without runserver.")

    def handle(self, *args: Any, **options: Any) -> None:
        alone = options.pop("alone")
        options.setdefault("skip_checks", False)
        if os.environ.get(DJANGO_AUTORELOAD_ENV) == "true":  # the inner process: the outer one has the service
            self.runserver.execute(*args, **options)
            return
        service = self._started(options)
        self.stdout.write(f"The notifier is at {service.url}")
        self.stdout.flush()
        try:
            if alone:
                raise CommandError(f"the service ended with {service.child.wait()}")
            threading.Thread(target=self._watch, args=(service,), daemon=True).start()
            self.runserver.execute(*args, **options)
        except KeyboardInterrupt:
            pass
        finally:
            self._stopping = True
            service.stop()

    _stopping = False

    def _started(self, options: dict[str, Any]) -> ServiceProcess:
        found = settings()
        host, port = _address(found)
        origins = _origins(options.get("addrport") or "", self.runserver)
        if f"http://{host}:{port}" in origins:
            raise CommandError(
                f"runserver and NOTIFIER['URL'] have the same port, {port}: give one of them another, "
                f"such as http://127.0.0.1:{port + 1}."
            )
        if inherited := os.environ.get("NOTIFIER_CORS_ORIGINS"):
            origins.append(inherited)
        try:
            return ServiceProcess(environment(found, origins=",".join(origins)), host=host, port=port)
        except ServiceNotStarted as fault:
            raise CommandError(str(fault)) from fault

    def _watch(self, service: ServiceProcess) -> None:
        code = service.child.wait()
        if not self._stopping:
            self.stderr.write(self.style.ERROR(f"The notifier ended with {code}; runserver goes on without it."))


def _address(found: Settings) -> tuple[str, int]:
    """Where the project expects its service. Raises `CommandError` where that is not a port of this machine."""
    if found.transport == "memory":
        raise CommandError("NOTIFIER['TRANSPORT'] is 'memory': nothing would come to the service. Use 'http'.")
    url = found.url or found.public_url
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOCAL or parts.path:
        raise CommandError(
            f"NOTIFIER['URL'] is {url!r}, and this command runs the service on this machine: "
            "for development set it to an address such as 'http://127.0.0.1:8001'."
        )
    if not found.jwt_secret:
        raise CommandError("NOTIFIER['JWT_SECRET'] is missing: the service is started with the same.")
    return parts.hostname, parts.port or 80


def _origins(addrport: str, runserver: Any) -> list[str]:
    """Whose pages may listen: those of runserver, under each name that a developer calls it by."""
    match = naiveip_re.match(addrport)
    given, port = ((match[1] or ""), match[5]) if match else ("", addrport)
    names = ["127.0.0.1", "localhost", "[::1]"]
    if given and given not in names:
        names.append(given)
    return [f"http://{name}:{port or runserver.default_port}" for name in names]
