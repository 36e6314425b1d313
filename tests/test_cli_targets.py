"""Every command that calls a service: through TLS and HTTP/2, and at an address where something else answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from notifier.cli import main
from tests.nginx import Nginx
from tests.support import ADMIN_KEY, API_KEY, JWT_SECRET, Service, free_port, running

pytestmark = pytest.mark.programs

CALLS = {
    "doctor": ("URL",),
    "bench": ("URL", "--streams", "2", "--seconds", "0.5"),
    "why": ("42", "m1", "--url", "URL"),
    "send": ("user:42", "--subject", "Hello", "--url", "URL"),
    "listen": ("--user", "42", "--count", "1", "--url", "URL"),
    "run": ("--to", "user:42", "--name", "Import", "--url", "URL", "--", "true"),
}
"""The commands, and how they are called with an address."""
CREDENTIALS = {"NOTIFIER_JWT_SECRET": JWT_SECRET, "NOTIFIER_API_KEYS": f"{API_KEY},{ADMIN_KEY}:publish+admin"}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The shipped nginx.conf with TLS and HTTP/2, before a service with a heartbeat a second."""
    with running(Service(env={"NOTIFIER_HEARTBEAT_S": "1"})) as service:
        nginx = Nginx(tmp_path_factory.mktemp("nginx"), service, tls=True)
        try:
            yield nginx
        finally:
            nginx.stop()


@pytest.fixture
def trusted(front: Nginx, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address; the certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(front.folder / "cert.pem"))
    return front.url


def call(name: str, url: str, *options: str) -> Result:
    arguments = [url if argument == "URL" else argument for argument in CALLS[name]]
    return CliRunner().invoke(main, [name, *options, *arguments], env=CREDENTIALS)


def refusal(name: str, url: str, *options: str) -> str:
    """The only line of a command that is refused."""
    result = call(name, url, *options)
    assert (result.exit_code, result.stdout) == (2, ""), (name, result.output)
    (line,) = result.stderr.splitlines()
    assert line.startswith("notifier: ")
    return line


def test_bench_and_doctor_measure_through_tls_and_http_2(trusted: str) -> None:
    report = json.loads(call("bench", trusted, "--json").stdout)
    assert report["deliveries"] == {"expected": 5, "delivered": 5, "lost": 0, "duplicates": 0, "out_of_order": 0}
    result = call("doctor", trusted)
    assert result.exit_code == 0, result.output
    assert "ok       http: HTTP/2: any number of streams share a connection" in result.output
    assert "weakens" not in result.output


def test_what_was_sent_through_tls_is_heard_and_traced(trusted: str) -> None:
    with_slash = f"{trusted}/"
    sent = call("send", with_slash)
    assert sent.exit_code == 0, sent.output
    heard = call("listen", with_slash)
    assert "\thello\t" in heard.stdout
    assert call("run", trusted).exit_code == 0
    asked = ["why", "42", json.loads(sent.stdout)["id"], "--url", with_slash]
    assert "from key:" in CliRunner().invoke(main, asked, env=CREDENTIALS).stdout


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"run"}))
def test_a_certificate_that_is_not_trusted_is_named_with_the_setting(front: Nginx, name: str) -> None:
    line = refusal(name, front.url)
    assert "its certificate is not trusted: self-signed certificate; SSL_CERT_FILE names" in line


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"run"}))
def test_https_to_a_port_without_tls_is_named(front: Nginx, name: str) -> None:
    assert "it does not speak TLS: is its address http://?" in refusal(
        name, front.service.url.replace("http:", "https:")
    )


@pytest.mark.parametrize("name", ["why", "send", "listen", "run"])
def test_http_to_a_port_with_tls_and_another_program_are_named_in_one_line(
    front: Nginx, trusted: str, name: str
) -> None:
    assert "400: it speaks TLS: its address is https://" in refusal(name, front.url.replace("https:", "http:"))
    assert "404: this is no answer of notifier: 404 Not Found nginx" in refusal(name, f"{trusted}/elsewhere")


def test_the_doctor_names_them_in_one_line_each(front: Nginx, trusted: str) -> None:
    plain, elsewhere = call("doctor", front.url.replace("https:", "http:")), call("doctor", f"{trusted}/elsewhere")
    assert "publish: 400 at POST /v1/events: it speaks TLS: its address is https://\n" in plain.output
    assert "publish: 404 at POST /v1/events: this is no answer of notifier: 404 Not Found nginx" in elsewhere.output


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_address_without_a_scheme_is_refused_by_every_command_alike(name: str) -> None:
    line = refusal(name, "notifier.example.org")
    assert line == "notifier: 'notifier.example.org' is not an address such as https://example.org"
    line = refusal(name, "https://ann:a-secret@notifier.example.org")
    assert line == "notifier: the address has a user or password: the service takes the key of `--key` alone"


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"doctor", "listen"}))
def test_a_wrong_key_is_named_by_every_command_and_not_shown(front: Nginx, trusted: str, name: str) -> None:
    line = refusal(name, trusted, "--key", "a-wrong-key-0123456789")
    assert line.endswith("401: unknown API key")
    assert "a-wrong-key" not in line


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"run"}))
def test_an_address_without_a_listener_is_one_line(name: str) -> None:
    assert "Connection refused" in refusal(name, f"http://127.0.0.1:{free_port()}")
