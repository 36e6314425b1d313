"""`notifier run`: a program whose output and percentages are a task of its users.

The program is never held up: what it writes is sent by a thread, and while the service is away the newest text waits.

Must not know: Django, brokers.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from codecs import getincrementaldecoder
from collections.abc import Sequence
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

import click
import httpx

from notifier import address
from notifier.event import new_id
from notifier.output import KEPT_BYTES
from notifier.programs import READ_BYTES, SIGTERM_CODE, Percentages, started, terminate

JOIN_S: Final = 0.1
"""Text that comes within this time is sent together."""
BEAT_S: Final = 5.0
"""Between two heartbeats. Their answers tell of a user's cancel."""
LOOK_S: Final = 0.25
"""While the program is silent: how often a cancel is looked for."""
RETRY_S: Final = 1.0
FINISH_S: Final = 10.0
"""How long the end of the program waits for a service that is away."""
PIECE_CHARS: Final = 4096
"""At most the 16 KiB of one piece."""
MAX_WAITING_CHARS: Final = KEPT_BYTES
"""Text that waits for the service; the oldest goes first, as in the service itself."""


class Refused(Exception):
    """The service refuses the task for good; the text says why."""


class Report:
    """The task of one program, sent to the service by a thread."""

    def __init__(self, service: str, key: str, to: Sequence[str], name: str) -> None:
        self.cancel_requested = False
        self._client = httpx.Client(base_url=service, headers={"Authorization": f"Bearer {key}"}, timeout=5.0)
        self._id = new_id()
        self._new: dict[str, Any] | None = {"to": list(to), "name": name, "id": self._id}
        """The body that creates the task, until the service has taken it."""
        self._changed = threading.Condition()
        self._text = ""
        self._percent: int | None = None
        self._last: dict[str, Any] | None = None
        """The change that ends the task."""
        self._thread = threading.Thread(target=self._run, name="notifier run", daemon=True)

    def begin(self) -> None:
        """Create the task, or go on without an answer: the thread tries again. Raises `Refused`."""
        try:
            self._create()
        except Refused:
            self._client.close()
            raise
        except (httpx.HTTPError, _Away) as exc:
            click.echo(f"notifier: the service is away ({address.reason(exc)}); the program runs", err=True)
        self._thread.start()

    def write(self, text: str) -> None:
        with self._changed:
            self._text = (self._text + text.replace("\0", "\N{REPLACEMENT CHARACTER}"))[-MAX_WAITING_CHARS:]
            self._changed.notify()

    def set_percent(self, percent: int) -> None:
        with self._changed:
            self._percent = percent
            self._changed.notify()

    def end(self, **change: Any) -> None:
        """Send what waits, and end the task. Returns after `FINISH_S` if the service does not answer."""
        with self._changed:
            self._last = change
            self._changed.notify()
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            click.echo("notifier: the service is away; the end of the task was not sent", err=True)

    def _run(self) -> None:
        with contextlib.closing(self._client):
            self._send_all()

    def _send_all(self) -> None:
        beat_at = time.monotonic() + BEAT_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._text or self._percent is not None or self._last, JOIN_S)
                percent, last = self._percent, self._last
            try:
                self._create()
                is_quiet = not self._send_text()
                if percent is not None:
                    self._change({"done": percent, "total": 100})
                    with self._changed:
                        self._percent = None if self._percent == percent else self._percent
                if last is not None and not self._text:
                    self._change(last)
                    return
                if is_quiet and time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + BEAT_S
                    self._change({"status": "running"})
            except (httpx.HTTPError, _Away):
                time.sleep(RETRY_S)
            except Refused as exc:
                click.echo(f"notifier: {exc}; the program runs on, unreported", err=True)
                return
            else:
                time.sleep(JOIN_S if not self._text and last is None else 0)

    def _create(self) -> None:
        if self._new is not None:
            self._call("POST", "/v1/tasks", self._new, self._id)
            self._new = None

    def _send_text(self) -> bool:
        """Send the next piece. False if there is none."""
        with self._changed:
            text, self._text = self._text[:PIECE_CHARS], self._text[PIECE_CHARS:]
        key = uuid.uuid4().hex
        while text:
            try:
                self._call("POST", f"/v1/tasks/{self._id}/output", {"text": text}, key)
                return True
            except (httpx.HTTPError, _Away):  # repeated under one key, so that the piece is stored once
                time.sleep(RETRY_S)
        return False

    def _change(self, change: dict[str, Any]) -> None:
        self._call("PATCH", f"/v1/tasks/{self._id}", change, uuid.uuid4().hex)

    def _call(self, method: str, path: str, body: dict[str, Any], key: str) -> None:
        response = self._client.request(method, path, json=body, headers={"Idempotency-Key": key})
        if response.status_code == 429 or response.status_code >= 500:
            raise _Away(f"it answered {response.status_code}")
        if response.status_code != 200:
            raise Refused(f"the service answered {address.problem(response)}")
        self.cancel_requested |= bool(response.json().get("cancel_requested"))


class _Away(Exception):
    """The service cannot take the call now."""


def run(report: Report, command: Sequence[str], percent: str) -> int:
    """Run a program to its end, with its output on this one's as well. Returns its exit code.

    Raises `Refused`, OSError where the program cannot be started, and `re.error` for a bad pattern.
    """
    percentages = Percentages(percent)
    report.begin()
    try:
        with started(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            was_cancelled = _follow(process, report, percentages)
    except BaseException as exc:
        report.end(status="failed", error=str(exc) or type(exc).__name__)
        raise
    if was_cancelled:
        report.end(status="cancelled")
        return SIGTERM_CODE
    code = process.returncode
    name = os.path.basename(command[0])
    end = {"status": "succeeded"} if code == 0 else {"status": "failed", "error": f"{name} ended with exit code {code}"}
    report.end(**end)
    return code if code >= 0 else 128 - code


def _follow(process: subprocess.Popen[bytes], report: Report, percentages: Percentages) -> bool:
    """Report what a program writes, until it ends. True if a user's cancel ended it."""
    assert process.stdout is not None
    decoder = getincrementaldecoder("utf-8")("replace")
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while True:
            if report.cancel_requested:
                terminate(process)
                return True
            if not selector.select(LOOK_S):
                continue
            data = os.read(process.stdout.fileno(), READ_BYTES)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            if text := decoder.decode(data, final=not data):
                report.write(text)
                if (percent := percentages.newest(text)) is not None:
                    report.set_percent(percent)
            if not data:
                process.wait()
                return False
