"""What `send()` costs its caller while the service runs, is absent, slow or stopped: `python -m bench.sending`.

With `OUTBOX=True`; each call is a committed row, over SQLite in a file or, with `--postgresql`, over PostgreSQL. The
calls are `--pause-ms` apart, as those of views, so the thread that delivers runs beside them. The bare row is an INSERT
of the same size: what Django and the database cost. Prints percentiles of the calls in milliseconds, of the time and of
the caller's CPU time, which other load on the machine hardly changes, and how many messages wait at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from django_bridge import background
from tests.postgres import USER, PostgresServer
from tests.support import API_KEY, JWT_SECRET, Service, free_port, running

GOAL_MS = 2.0
SLOW_S = 0.5


class _Slow(BaseHTTPRequestHandler):
    """Answers each call after `SLOW_S`, as the service does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(SLOW_S)
        body = b'{"id": "x", "cursor": "a-1", "watched": false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@contextlib.contextmanager
def state(name: str) -> Iterator[str]:
    """The address of a service in this state."""
    if name == "absent":
        yield f"http://127.0.0.1:{free_port()}"
    elif name == "slow":
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
    else:
        with running(Service()) as service:
            if name == "stopped":
                service.process.signal(signal.SIGSTOP)
            yield service.url
            service.process.signal(signal.SIGCONT)


def measured(call: Callable[[], object], calls: int, pause_s: float) -> list[tuple[float, float]]:
    """Milliseconds of each call and of its thread's CPU, without the first call, which opens connections."""
    call()
    took = []
    for _ in range(calls):
        began, cpu = time.perf_counter(), time.thread_time()
        call()
        took.append((1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - cpu)))
        time.sleep(pause_s)
    return took


def line(name: str, took: list[tuple[float, float]], waiting: str = "") -> tuple[str, float]:
    """A row of the table, and the 99th percentile of the time."""
    wall, cpu = ([sample[n] for sample in took] for n in (0, 1))
    p99, cpu_p99 = (statistics.quantiles(values, n=100)[98] for values in (wall, cpu))
    figures = (statistics.median(wall), p99, max(wall), statistics.median(cpu), cpu_p99)
    return f"| {name} | {' | '.join(f'{value:.2f}' for value in figures)} | {waiting} |", p99


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sending", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--pause-ms", type=float, default=2.0)
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    with database(options.postgresql) as default:
        _set_up(default)
        missed = _table(options.calls, options.pause_ms / 1000)
        background.current().wait(10)
        connections.close_all()
    print(f"goal, p99 under {GOAL_MS:.0f} ms in every state: {'missed: ' + ', '.join(missed) if missed else 'reached'}")


@contextlib.contextmanager
def database(is_postgresql: bool) -> Iterator[dict[str, str]]:
    """The settings of an empty database."""
    if not is_postgresql:
        with tempfile.TemporaryDirectory() as folder:
            yield {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/bench.sqlite3"}
        return
    with running(PostgresServer()) as server:
        server.create("bench")
        yield {"ENGINE": "django.db.backends.postgresql", "HOST": str(server.folder), "NAME": "bench", "USER": USER}


def _set_up(default: dict[str, str]) -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bridge"],
        DATABASES={"default": default},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()
    call_command("migrate", verbosity=0)


def _table(calls: int, pause_s: float) -> list[str]:
    """Measure and print every row. Returns the states that missed the goal."""
    from django_bridge import Message
    from django_bridge.models import OutboxMessage

    missed = []
    print("| service | p50 | p99 | max | CPU p50 | CPU p99 | waiting |\n|---|---|---|---|---|---|---|")
    numbers = iter(range(10**9))
    text = "x" * 200

    def row() -> None:
        OutboxMessage.objects.create(message_id=f"row-{next(numbers)}", payload=text, origin="bench", state="failed")

    print(line("(a bare row)", measured(row, calls, pause_s))[0])
    OutboxMessage.objects.all().delete()
    for name in ("running", "absent", "slow", "stopped"):
        with state(name) as url:
            notifier = {"URL": url, "API_KEY": API_KEY, "JWT_SECRET": JWT_SECRET, "OUTBOX": True}
            before = OutboxMessage.objects.count()
            settings.NOTIFIER = notifier  # stays: the thread goes on with the last one
            took = measured(lambda: Message(to_users=1, subject="Paid").send(), calls, pause_s)
            if name == "running":
                background.current().wait(10)
            shown, p99 = line(name, took, str(OutboxMessage.objects.count() - before))
        print(shown, flush=True)
        if p99 >= GOAL_MS:
            missed.append(name)
    return missed


if __name__ == "__main__":
    main()
