"""`manage.py notifier`: `runserver` with the service beside it, for development.

The service is started by the outer of runserver's two processes, so it and its streams survive a code reload. Must not
know: how the service ends with its parent (see `service`).
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
    requires_system_checks = ()  # runserver runs them, after each reload
    suppressed_base_arguments = {"--verbosity", "--traceback"}  # noqa: RUF012  # as Django has it

    def add_arguments(self, parser: CommandParser) -> None:
        app: Any = get_commands()["runserver"]
        self.runserver: Any = app if isinstance(app, BaseCommand) else load_command_class(app, "runserver")
        self.runserver.add_arguments(parser)
        parser.add_argument("--alone", action="store_true", help="Only the service, without runserver.")

    def handle(self, *args: Any, **options: Any) -> None:
        alone = options.pop("alone")
        options.setdefault("skip_checks", False)
        if os.environ.get(DJANGO_AUTORELOAD_ENV) == "true":  # the inner process: the service runs beside the outer one
            self.runserver.execute(*args, **options)
            return
        service = self._started(options)
        self.stdout.write(f"The notifier is at {service.url}")
        if not alone:
            self.stdout.write(f"Pages: {' and '.join(self._origins[:2])}")
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
        configured = settings()
        host, port = _address(configured)
        origins = _origins(options.get("addrport") or "", self.runserver)
        self._origins = list(origins)
        if f"http://{host}:{port}" in origins:
            raise CommandError(
                f"runserver and NOTIFIER['URL'] have the same port, {port}: give one of them another, "
                f"such as http://127.0.0.1:{port + 1}."
            )
        if inherited := os.environ.get("NOTIFIER_CORS_ORIGINS"):
            origins.append(inherited)
        try:
            return ServiceProcess(environment(configured, origins=",".join(origins)), host=host, port=port)
        except ServiceNotStarted as exc:
            raise CommandError(str(exc)) from exc

    def _watch(self, service: ServiceProcess) -> None:
        code = service.child.wait()
        if not self._stopping:
            self.stderr.write(self.style.ERROR(f"The notifier ended with {code}; runserver goes on without it."))


def _address(configured: Settings) -> tuple[str, int]:
    """Host and port of the project's service. Raises `CommandError` for an address that is not on this machine."""
    if configured.transport == "memory":
        raise CommandError("NOTIFIER['TRANSPORT'] is 'memory', so nothing is sent to the service. Use 'http'.")
    url = configured.url or configured.public_url
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOCAL or parts.path:
        raise CommandError(
            f"NOTIFIER['URL'] is {url!r}, and this command runs the service on this machine: "
            "for development set it to an address such as 'http://127.0.0.1:8001'."
        )
    if not configured.jwt_secret:
        raise CommandError("NOTIFIER['JWT_SECRET'] is missing: the service needs it as well.")
    return parts.hostname, parts.port or 80


def _origins(addrport: str, runserver: Any) -> list[str]:
    """The allowed CORS origins: runserver's pages, under each host name that a developer may use."""
    match = naiveip_re.match(addrport)
    host, port = ((match[1] or ""), match[5]) if match else ("", addrport)
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host and host not in names:
        names.append(host)
    return [f"http://{name}:{port or runserver.default_port}" for name in names]
