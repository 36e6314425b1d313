"""The command `notifier`: token, send, listen; its output, and its refusals with their texts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from click.testing import CliRunner

from notifier import address
from notifier.cli import main
from tests.commands import CREDENTIALS, printed, refused, run, running
from tests.support import API_KEY, JWT_SECRET, Service, free_port, subscriber_token

pytestmark = pytest.mark.slow

# The command itself


def test_the_command_has_a_version_and_describes_each_subcommand() -> None:
    assert re.fullmatch(r"notifier, version \S+\n", printed("--version"))
    text = printed("--help")
    for command in ("serve", "token", "send", "listen", "run", "doctor", "check-broker"):
        assert re.search(rf"^  {command} +\S", text, re.MULTILINE)
        assert printed(command, "--help").startswith("Usage:")


def test_the_installed_command_is_the_same_as_the_module() -> None:
    script = Path(sys.executable).parent / "notifier"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=30)
    assert done.stdout.replace("notifier [", "python -m notifier [") == run("--help").stdout


# token


def claims_of(token: str, **options: Any) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token.strip(), JWT_SECRET, algorithms=["HS256"], audience="notifier:stream", **options
    )
    return claims


def test_token_prints_a_token_of_the_contract() -> None:
    done = run("token", "42", **CREDENTIALS)
    assert (done.returncode, done.stderr) == (0, "")
    claims = claims_of(done.stdout)
    assert claims == {"sub": "42", "aud": "notifier:stream", "iat": claims["iat"], "exp": claims["iat"] + 3600}
    assert abs(claims["iat"] - time.time()) < 30


def test_token_carries_groups_name_and_issuer() -> None:
    args = ["--group", "staff", "--group", "a b", "--name", "Ann", "--ttl", "60"]
    claims = claims_of(printed("token", "42", *args, **CREDENTIALS, NOTIFIER_JWT_ISSUER="shop"), issuer="shop")
    assert (claims["groups"], claims["name"], claims["exp"] - claims["iat"]) == (["staff", "a b"], "Ann", 60)


def test_token_refuses_without_a_secret() -> None:
    done = run("token", "42")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("notifier: NOTIFIER_JWT_SECRET")


@pytest.mark.parametrize("user", ["", "a\nb", "a" * 129])
def test_token_refuses_a_user_that_could_not_listen(user: str) -> None:
    assert "sub" in refused("token", user, **CREDENTIALS)


# send


def test_send_prints_the_answer_and_the_message_arrives(service: Service) -> None:
    options = ["--text", "Loong text", "--level", "success", "--link", "/a", "--data", '{"a":1}']
    with service.user("cli-send") as user:
        out = printed(
            "send", "user:cli-send", "group:g", "--subject", "Hi", *options, "--url", service.url, **CREDENTIALS
        )
        messages = user.get("/v1/inbox").json()["messages"]
    assert set(json.loads(out)) == {"id", "cursor", "watched"}
    (message,) = [row for row in messages if row["id"] == json.loads(out)["id"]]  # other tests may have sent to `all`
    assert {name: message[name] for name in ("subject", "text", "level", "url", "data")} == {
        "subject": "Hi",
        "text": "Loong text",
        "level": "success",
        "url": "/a",
        "data": {"a": 1},
    }


def test_send_takes_its_key_and_address_from_the_environment(service: Service) -> None:
    settings = {"NOTIFIER_URL": service.url, "NOTIFIER_API_KEY": API_KEY}
    done = run("send", "user:cli-env", "--subject", "Hi", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["id"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["user:1", "--key", "unknown-key-0123456789"], "401: "),
        (["room:1"], "422: to[0]"),
        (["user:1", "--level", "loud"], "422: level"),
        (["user:1", "--link", "javascript:x"], "422: url"),
        (["user:1", "--data", "{"], "--data is not JSON"),
        (["user:1", "--data", "[]"], "422: data"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_send_refuses_with_the_text_of_the_service(service: Service, args: list[str], text: str) -> None:
    assert text in refused("send", *args, "--subject", "Hi", "--url", service.url, **CREDENTIALS)


def test_send_refuses_without_a_key(service: Service) -> None:
    assert "NOTIFIER_API_KEY" in refused("send", "user:1", "--subject", "Hi", "--url", service.url)


def test_send_refuses_an_address_without_a_service() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert url in refused("send", "user:1", "--subject", "Hi", "--url", url, **CREDENTIALS)


# listen


def lines_of(out: str) -> list[tuple[str, str, Any]]:
    """Printed events as (id, type, data), without pings, which come at any time."""
    rows = [line.split("\t", 2) for line in out.splitlines()]
    return [(row[0], row[1], json.loads(row[2])) for row in rows if row[1] != "ping"]


def publish(service: Service, user: str, subject: str) -> dict[str, Any]:
    with service.client() as client:
        answer: dict[str, Any] = client.post("/v1/messages", json={"to": [f"user:{user}"], "subject": subject}).json()
    return answer


def test_listen_prints_events_as_they_come(service: Service) -> None:
    with running("listen", "--user", "cli-listen", "--url", service.url, **CREDENTIALS) as process:
        process.wait_until(lambda: "hello" in process.output(), "hello")
        sent = publish(service, "cli-listen", "Hi")
        process.wait_until(lambda: "message" in process.output(), "the message")
        hello, message = lines_of(process.output())
    assert hello[1:2] == ("hello",)
    assert message[:2] == (sent["cursor"], "message")
    assert message[2]["subject"] == "Hi"


def test_listen_goes_on_from_a_cursor_and_ends_after_a_count(service: Service) -> None:
    first = publish(service, "cli-after", "one")
    second = publish(service, "cli-after", "two")
    out = printed(
        "listen", "--user", "cli-after", "--after", first["cursor"], "--count", "2", "--url", service.url, **CREDENTIALS
    )
    hello, message = lines_of(out)
    assert hello[2]["replayed"] == 1
    assert message[:2] == (second["cursor"], "message")


def test_listen_takes_a_token_from_option_or_environment(service: Service) -> None:
    token = subscriber_token("cli-token")
    for args, settings in ((["--token", token], {}), ([], {"NOTIFIER_TOKEN": token})):
        out = printed("listen", *args, "--count", "1", "--url", service.url, **settings)
        assert lines_of(out)[0][1] == "hello"


@pytest.mark.parametrize(
    ("args", "variable"), [(["send", "user:1", "--subject", "Hi"], "API_KEY"), (["listen", "--count", "1"], "TOKEN")]
)
def test_a_credential_may_come_from_a_file(service: Service, tmp_path: Path, args: list[str], variable: str) -> None:
    path, name = tmp_path / "secret", f"NOTIFIER_{variable}_FILE"
    given = {"NOTIFIER_URL": service.url, name: str(path)}
    assert f"{name}: cannot read {path}" in refused(*args, **given)
    path.write_text(f"{API_KEY if variable == 'API_KEY' else subscriber_token('cli-file')}\n")
    assert printed(*args, **given)
    both = refused(*args, **given, **{f"NOTIFIER_{variable}": "x"})
    assert f"NOTIFIER_{variable} and {name} are both set" in both
    path.write_text("\n")
    assert f"{name}: the file {path} is empty" in refused(*args, **given)


@pytest.mark.parametrize("command", ["send", "run", "doctor", "bench", "why"])
def test_each_command_with_a_key_reads_it_from_a_file(command: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    more = {"send": ["--subject", "Hi"], "run": ["--to", "all", "--name", "x"], "why": ["m-1"]}.get(command, [])
    given = {"NOTIFIER_API_KEY_FILE": str(path), "NOTIFIER_JWT_SECRET": JWT_SECRET}
    assert f"cannot read {path}" in refused(command, "http://127.0.0.1:1", *more, **given)


@pytest.mark.parametrize("source", ["option", "variable", "file"])
@pytest.mark.parametrize("secret", [f"{API_KEY}\n{API_KEY}2", f"{API_KEY}-\xe9", f"{API_KEY} \t{API_KEY}2"])
@pytest.mark.parametrize(
    ("args", "option", "variable"),
    [
        (["send", "user:1", "--subject", "Hi"], "--key", "NOTIFIER_API_KEY"),
        (["listen"], "--token", "NOTIFIER_TOKEN"),
    ],
    ids=["key", "token"],
)
def test_a_credential_that_no_header_can_carry_is_refused_by_its_name_alone(
    tmp_path: Path, args: list[str], option: str, variable: str, secret: str, source: str
) -> None:
    (tmp_path / "secret").write_text(secret, "utf-8")
    given = {"NOTIFIER_URL": "http://127.0.0.1:1"}
    given |= {"variable": {variable: secret}, "file": {f"{variable}_FILE": str(tmp_path / "secret")}}.get(source, {})
    done = CliRunner().invoke(main, [*args, *([option, secret] if source == "option" else [])], env=given)
    name = {"option": option, "variable": variable, "file": f"{variable}_FILE"}[source]
    assert done.exit_code == 2
    assert done.output.startswith(f"notifier: {name}: must be one ")
    assert len(done.output.splitlines()) == 1
    assert API_KEY not in done.output


def test_a_key_with_its_scopes_or_too_short_is_no_key() -> None:
    for key in (f"{API_KEY}:publish", f"{API_KEY},{API_KEY}2", "short"):
        done = CliRunner().invoke(main, ["send", "user:1", "--subject", "Hi", "--key", key])
        assert done.output.startswith("notifier: --key: must be one key, ")
        assert key not in done.output


def test_why_and_doctor_show_no_part_of_a_file_with_two_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{API_KEY}\n{API_KEY}2\n")
    given = {"NOTIFIER_API_KEY_FILE": str(tmp_path / "keys"), "NOTIFIER_URL": "http://127.0.0.1:1"}
    for args in (["why", "ann", "m"], ["doctor", "--user", "ann"]):
        line = refused(*args, **given, NOTIFIER_JWT_SECRET=JWT_SECRET)
        assert line.startswith("notifier: NOTIFIER_API_KEY_FILE: must be one key, ")
        assert API_KEY not in line


def test_the_reason_of_a_failed_call_has_no_value_of_a_header(service: Service) -> None:
    headers = {"Authorization": f"Bearer {API_KEY}\n{API_KEY}2"}
    with pytest.raises(httpx.LocalProtocolError, match=API_KEY) as error:
        httpx.get(f"{service.url}/health/live", headers=headers)
    assert address.reason(error.value) == "Illegal header value"
    answer = httpx.RemoteProtocolError("illegal header line: bytearray(b'Set Cookie: session=1')")
    assert address.reason(answer) == "illegal header line"
    assert "SSH-2.0" in address.reason(httpx.RemoteProtocolError("illegal status line: bytearray(b'SSH-2.0')"))


def test_listen_ends_at_a_bye(service: Service) -> None:
    token = subscriber_token("cli-bye", expires_in_s=3)
    events = lines_of(printed("listen", "--token", token, "--url", service.url))
    assert [event[1] for event in events] == ["hello", "bye"]
    assert events[-1][2]["reason"] == "expired"


def test_listen_ends_quietly_at_an_interrupt(service: Service) -> None:
    with running("listen", "--user", "cli-interrupt", "--url", service.url, **CREDENTIALS) as process:
        process.wait_until(lambda: "hello" in process.output(), "hello")
        process.signal(signal.SIGINT)
        assert process.child.wait(15) == 0
        assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    ("args", "settings", "text"),
    [
        (["--token", "nonsense"], {}, "401: "),
        ([], CREDENTIALS, "--user"),
        (["--user", "42"], {}, "NOTIFIER_JWT_SECRET"),
        (["--user", "a\nb"], CREDENTIALS, "sub"),
    ],
    ids=["bad token", "no user", "no secret", "bad user"],
)
def test_listen_refuses_without_a_valid_token(
    service: Service, args: list[str], settings: dict[str, str], text: str
) -> None:
    assert text in refused("listen", *args, "--url", service.url, **settings)


def test_listen_refuses_an_address_without_a_service() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert url in refused("listen", "--user", "42", "--url", url, **CREDENTIALS)


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port"])
@pytest.mark.parametrize(
    "command", [["send", "user:1", "--subject", "Hi"], ["listen", "--user", "42"]], ids=["send", "listen"]
)
def test_a_malformed_address_is_refused_in_one_line(command: list[str], url: str) -> None:
    assert url in refused(*command, "--url", url, **CREDENTIALS)
