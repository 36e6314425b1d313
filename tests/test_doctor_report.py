"""`notifier doctor`: whose lines are printed, what the headers of a hop prove, plain HTTP, the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from notifier.check.result import OK, SKIPPED, UNKNOWN, WEAKENS, Result
from notifier.cli import main
from notifier.doctor import fixes, report
from notifier.doctor.address import _http_version
from notifier.doctor.public import Public, Target
from tests.commands import CREDENTIALS

FORWARDED = {"x-accel-buffering": "no"}
MARKER = "X-Accel-Buffering: no"
HIDDEN = "no X-Accel-Buffering, as behind nginx"


@pytest.mark.parametrize(
    ("headers", "proxy", "evidence"),
    [
        ({"via": "1.1 Caddy", "server": "uvicorn", **FORWARDED}, "Caddy", f"server: uvicorn, via: 1.1 Caddy, {MARKER}"),
        ({"via": "1.1 haproxy", **FORWARDED}, "HAProxy", f"via: 1.1 haproxy, {MARKER}"),
        ({"server": "Caddy", **FORWARDED}, "Caddy", f"server: Caddy, {MARKER}"),
        ({"server": "nginx/1.22.1"}, "nginx", f"server: nginx/1.22.1, {HIDDEN}"),
        ({"server": "Apache/2.4.71 (Debian)", **FORWARDED}, "Apache", f"server: Apache/2.4.71 (Debian), {MARKER}"),
        ({"server": "awselb/2.0"}, "ALB", f"server: awselb/2.0, {HIDDEN}"),
    ],
)
def test_a_hop_that_names_itself_gets_its_own_lines(headers: dict[str, str], proxy: str, evidence: str) -> None:
    assert fixes.evidence(headers) == evidence
    for check, lines in fixes.FIXES.items():
        assert fixes.lines(check, headers) == f"{proxy:<9} {lines[proxy]}"


def test_hops_without_a_name_get_the_lines_of_all_that_may_be_there() -> None:
    every = list(fixes.PROXIES.values())
    for check, lines in fixes.FIXES.items():
        assert sorted(lines) == sorted(every)
        assert [line.split()[0] for line in fixes.lines(check, {}).splitlines()] == list(lines)
        # nginx removes the header from what it forwards.
        forwarded = [line.split()[0] for line in fixes.lines(check, FORWARDED).splitlines()]
        assert forwarded == [name for name in lines if name != "nginx"]


@pytest.mark.parametrize(
    ("url", "verdict", "seen"),
    [
        ("http://notifier.example.org", WEAKENS, "plain HTTP: tokens can be read on the way"),
        ("http://192.0.2.7:8000", WEAKENS, "plain HTTP: tokens can be read on the way"),
        ("http://localhost.example.org", WEAKENS, "plain HTTP: tokens can be read on the way"),
        ("http://localhost:8000", OK, "plain HTTP, which does not leave this machine"),
        ("http://127.0.0.1:8000", OK, "plain HTTP, which does not leave this machine"),
        ("http://[::1]:8000", OK, "plain HTTP, which does not leave this machine"),
    ],
)
def test_plain_http_is_well_on_this_machine_only(url: str, verdict: str, seen: str) -> None:
    public = Public(Target(url, "t", "ann", "k"))
    result = _http_version(public)
    public.close()
    assert (result.name, result.verdict) == ("http", verdict)
    assert result.seen.startswith(seen)
    assert ("nginx     listen 443 ssl http2;" in result.fix) == (verdict == WEAKENS)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([OK, SKIPPED], 0),
        ([OK, UNKNOWN, SKIPPED], 2),
        ([UNKNOWN, WEAKENS, OK], 1),
        ([WEAKENS, UNKNOWN], 1),
    ],
)
def test_the_exit_code_is_that_of_the_gravest_result(
    monkeypatch: pytest.MonkeyPatch, verdicts: list[Any], code: int, as_json: bool
) -> None:
    asked = []

    def diagnose(target: Target, settings: object, *, long: bool) -> Iterator[Result]:
        asked.append((target.url, long))
        yield from (Result("a.example", f"check-{n}", verdict, "seen", "fix") for n, verdict in enumerate(verdicts))

    monkeypatch.setattr(report, "diagnose", diagnose)
    options = ["--long", *(["--json"] if as_json else [])]
    done = CliRunner().invoke(main, ["doctor", "https://a.example", *options], env=CREDENTIALS)
    assert (done.exit_code, asked) == (code, [("https://a.example", True)])
    if as_json:
        document = json.loads(done.output)
        assert document["ok"] == (code == 0)
        assert [check["verdict"] for check in document["checks"]] == verdicts
    else:
        lines = [line for line in done.output.splitlines() if not line.startswith(" ")]
        assert lines == [f"{verdict:<8} check-{n}: seen" for n, verdict in enumerate(verdicts)]
