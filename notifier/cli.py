"""The command `notifier`: serve, token, send, listen, run, doctor, why, bench, check-broker.

Each command imports what it needs, so that the long-running `serve` does not load the modules of the others.
Must not know: Redis; what is behind the HTTP API.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from notifier import address
from notifier.credentials import (
    KEY_OPTION,
    SERVICE_OPTION,
    first_key,
    read_settings,
    refuse,
    signed,
    token_of,
    token_option,
)
from notifier.errors import ConfigurationError
from notifier.message import FIELDS, REQUIRED
from notifier.programs import PERCENT, raising_on_sigterm
from notifier.settings import Settings
from notifier.why import why


@click.group(commands={"why": why})
@click.version_option(package_name="sse-notifier", prog_name="notifier")
def main() -> None:
    """Server-Sent Events for Django and anything that can POST."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes; more than one needs Redis."
)
@click.option("--dev", is_flag=True, help="Generate a secret and a key if none are set, print them, and serve /demo.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
def serve(host: str, port: int, workers: int, dev: bool, log_level: str) -> None:
    """Run the service. Settings are NOTIFIER_* environment variables; see docs/settings.md."""
    from notifier import logs, server, supervisor
    from notifier.broker import registry

    settings = read_settings(dev=True) if dev else read_settings()
    try:
        settings.check_credentials()
        registry.backend_of(settings)
        if settings.jwt_public_key:
            from notifier import keys

            # Each worker loads it again; checked here, a bad key is one error instead of workers that restart for ever.
            keys.fixed_keys((), settings.jwt_public_key)
    except ConfigurationError as exc:
        refuse(str(exc))
    scheme = registry.scheme_of(settings)
    if workers > 1 and scheme in registry.ONE_PROCESS:
        refuse(
            f"--workers {workers} needs Redis, NOTIFIER_BROKER_URL=redis://...: the broker `{scheme}:` lives in one "
            "process, so an event published to one worker would not reach the streams of another."
        )
    try:
        sockets = server.listen(host, port, sockets=workers)
    except OSError as exc:
        refuse(f"cannot listen on {host}:{port}: {exc.strerror}")
    if settings.dev:
        _share_dev_settings(settings)
        click.echo(_dev_banner(settings, host, port))
    elif log_level in ("debug", "info") and settings.log == "text":
        click.echo(f"notifier at {_address(host, port)}", err=True)
    configuration = server.config(
        "notifier.app:create",
        workers=workers,
        drain_s=settings.drain_s,
        log_level=log_level,
        log_config=logs.configuration(log_level, settings.log),
    )
    sys.exit(supervisor.run(configuration, sockets))


@main.command()
@click.argument("user")
@click.option("--ttl", default=3600, show_default=True, type=click.IntRange(1), help="Seconds until it expires.")
@click.option("--group", "groups", multiple=True, help="A group of the user; may be repeated.")
@click.option("--name", help="The user's name.")
def token(user: str, ttl: int, groups: tuple[str, ...], name: str | None) -> None:
    """Print a token with which USER may listen, signed with NOTIFIER_JWT_SECRET."""
    settings = read_settings()
    if not settings.jwt_secret:
        refuse("NOTIFIER_JWT_SECRET must be set to sign a token")
    claims: dict[str, Any] = {"groups": list(groups)} if groups else {}
    if name:
        claims["name"] = name
    click.echo(signed(settings, user, ttl_s=ttl, **claims))


def _message_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `send`: one for each field with an `option`."""
    for field in reversed(FIELDS):
        if field.option:
            command = click.option(
                f"--{field.option}",
                field.name,
                required=field.default is REQUIRED,
                help=field.description,
            )(command)
    return command


@main.command()
@click.argument("to", nargs=-1, required=True)
@_message_options
@SERVICE_OPTION
@KEY_OPTION
def send(to: tuple[str, ...], service: str, api_key: str | None, **fields: str | None) -> None:
    """Send a message TO channels: user:<id>, group:<name> or all."""
    body: dict[str, Any] = {"to": list(to), **{name: value for name, value in fields.items() if value is not None}}
    if "data" in body:
        try:
            body["data"] = json.loads(body["data"])
        except ValueError as exc:
            refuse(f"--data is not JSON: {exc}")
    headers = {"Authorization": f"Bearer {api_key or first_key()}", "Idempotency-Key": uuid.uuid4().hex}
    click.echo(_post(f"{service}/v1/messages", body, headers))


@main.command()
@click.option("--user", help="Listen as this user, with a token signed with NOTIFIER_JWT_SECRET.")
@token_option("Listen with this token.")
@click.option("--after", help="The cursor to resume from.")
@click.option("--count", type=click.IntRange(1), help="End after this many events.")
@SERVICE_OPTION
def listen(user: str | None, given: str | None, after: str | None, count: int | None, service: str) -> None:
    """Print the events of a stream as they arrive."""
    import httpx

    given = given or token_of(user)
    headers = {"Authorization": f"Bearer {given}", "Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = after
    try:
        with httpx.stream(
            "GET", f"{service}/v1/stream", headers=headers, timeout=httpx.Timeout(10, read=None)
        ) as response:
            if response.status_code != 200:
                response.read()
                refuse(f"cannot listen at {service}: {address.problem(response)}")
            for seen, event in enumerate(_events(response.iter_lines()), 1):
                click.echo(event)
                if seen == count:
                    return
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        refuse(f"cannot listen at {service}: {address.reason(exc)}")
    except KeyboardInterrupt:
        return


@main.command("run")
@click.argument("command", nargs=-1, required=True)
@click.option("--to", multiple=True, required=True, help="Who sees the task, such as user:7; may be repeated.")
@click.option("--name", required=True, help="The task's name.")
@click.option("--percent", default=PERCENT, help="A pattern whose first group is a percentage; by default 42%.")
@SERVICE_OPTION
@KEY_OPTION
def run_program(
    command: tuple[str, ...], to: tuple[str, ...], name: str, percent: str, service: str, api_key: str | None
) -> None:
    """Run COMMAND as a task: its output, its percentages and its end are shown to the users; a cancel terminates it.

    notifier run --to user:7 --name Import -- ./import.sh --all

    The exit code is that of the program, and 143 after a cancel. While the service is away, the program runs on.
    """
    import re

    from notifier import run

    try:
        with raising_on_sigterm():
            sys.exit(run.run(run.Report(service, api_key or first_key(), to, name), command, percent))
    except (run.Refused, re.error, OSError) as exc:
        refuse(str(exc))


@main.command()
@click.argument("url", envvar="NOTIFIER_URL")
@click.option("--user", default="notifier-doctor", show_default=True, help="Whose streams are read, by a token for it.")
@token_option("Read the streams of this token's user instead.")
@KEY_OPTION
@click.option("--origin", default="", help="The origin of the pages, where it is not that of URL.")
@click.option("--long", is_flag=True, help="Watch a quiet stream for five minutes and a half.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(url: str, user: str, given: str | None, api_key: str | None, origin: str, long: bool, as_json: bool) -> None:
    """Say what lies between browsers and the service at its public URL, and the lines of configuration that mend it.

    It publishes four events to one user. The exit code is 0 where all is well, 1 where something is not, 2 where that
    cannot be found out.
    """
    from notifier.doctor import report

    try:
        target = report.target(url, given or token_of(user), api_key or first_key(), origin)
        sys.exit(report.run(target, read_settings(), long=long, as_json=as_json))
    except (ConfigurationError, report.CannotAsk) as exc:
        refuse(str(exc))


@main.command()
@click.argument("url", envvar="NOTIFIER_URL")
@click.option("--streams", default=100, show_default=True, type=click.IntRange(1, 50_000), help="Streams to open.")
@click.option(
    "--events-per-s", default=10.0, show_default=True, type=click.FloatRange(0.1, 10_000), help="How many to publish."
)
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 3600), help="How long to publish."
)
@click.option("--users", type=click.IntRange(1, 50_000), help="Users of the streams; by default one for each stream.")
@click.option(
    "--to",
    default="user",
    show_default=True,
    type=click.Choice(["user", "group"]),
    help="Each event goes to one user, in turn; or to every stream.",
)
@KEY_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(api_key: str | None, as_json: bool, **load: Any) -> None:
    """Measure your own deployment at its public URL: latencies, and whether an event is lost, doubled or misplaced.

    It opens streams of the users notifier-bench-0, -1 and so on, with tokens by NOTIFIER_JWT_SECRET. Ctrl-C ends
    it with what was measured so far. The exit code is 0 where all is delivered, 1 where something is lost, doubled,
    misplaced or refused, 2 where that cannot be found out.
    """
    from notifier.load import report

    try:
        sys.exit(report.run(report.planned(read_settings(), api_key or first_key(), **load), as_json=as_json))
    except (ConfigurationError, report.CannotAsk) as exc:
        refuse(str(exc))


@main.command("check-broker")
@click.argument("url", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_broker(url: str | None, as_json: bool) -> None:
    """Say which promises the settings of the broker at URL weaken, and the fix of each.

    Without URL: the broker that the service's settings name. The exit code is 0 where nothing weakens a promise, 1
    where something does, 2 where that cannot be found out.
    """
    from notifier import check

    settings = read_settings(broker_url=url, redis_url="") if url else read_settings()
    results = []
    try:
        for result in check.check_broker(settings):
            results.append(result)
            fix = f". Fix: {result.fix}" if result.fix else ""
            if not as_json:
                click.echo(f"{result.verdict:<8} {result.server} {result.name}: {result.seen}{fix}")
    except (ConfigurationError, check.CannotAsk) as exc:
        refuse(str(exc))
    verdicts = {result.verdict for result in results}
    code = 1 if check.WEAKENS in verdicts else 2 if check.UNKNOWN in verdicts else 0
    if as_json:
        click.echo(json.dumps({"ok": code == 0, "checks": [asdict(result) for result in results]}))
    sys.exit(code)


def _events(lines: Iterator[str]) -> Iterator[str]:
    """Each event as one line: id, type, data."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            if "event" in fields:
                yield "\t".join((fields.get("id", "-"), fields["event"], fields.get("data", "")))
            fields = {}


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> str:
    """POST, and repeat once after a connection error or a 503: the idempotency key makes that safe."""
    import httpx

    with httpx.Client(timeout=10) as client:
        for last in (False, True):
            try:
                response = client.post(url, json=body, headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL) as exc:
                if last:
                    refuse(f"cannot send to {url}: {address.reason(exc)}")
                continue
            if response.status_code == 503 and not last:
                continue
            if response.status_code != 200:
                refuse(address.problem(response))
            return response.text
    raise AssertionError("the second attempt returns or refuses")


def _share_dev_settings(settings: Settings) -> None:
    """Export the credentials that --dev generated, for the workers and for commands started from this environment."""
    os.environ["NOTIFIER_DEV"] = "1"
    for name in ("NOTIFIER_JWT_SECRET", "NOTIFIER_API_KEYS"):
        os.environ.pop(f"{name}_FILE", None)  # it was read, and both would be refused
    os.environ["NOTIFIER_JWT_SECRET"] = settings.jwt_secret
    os.environ["NOTIFIER_API_KEYS"] = ",".join(key.entry for key in settings.api_keys)


def _dev_banner(settings: Settings, host: str, port: int) -> str:
    address = _address(host, port)
    return "\n".join(
        (
            "",
            "  notifier --dev: do not use this in production",
            f"  demo      {address}/demo",
            f"  API docs  {address}/docs",
            f"  NOTIFIER_JWT_SECRET={settings.jwt_secret}",
            f"  NOTIFIER_API_KEY={settings.api_keys[0]!s}",
            "",
        )
    )


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
