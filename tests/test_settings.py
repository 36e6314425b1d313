"""The settings: their bounds, and that an error names the bad setting before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from notifier.api_key import ApiKey
from notifier.app import build
from notifier.cli import _share_dev_settings
from notifier.errors import ConfigurationError
from notifier.hook import Hook
from notifier.settings import SECRETS, Settings, load

SECRET = "a-secret-for-tests-that-is-long-enough"
KEY = "test-key-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NOTIFIER_{name.upper()}", raising=False)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_REDIS_URL", "redis://example:6379/3")
    monkeypatch.setenv("NOTIFIER_JWT_SECRET", SECRET)
    monkeypatch.setenv("NOTIFIER_API_KEYS", f" {KEY} , {KEY}2:publish+admin ,")
    monkeypatch.setenv("NOTIFIER_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    monkeypatch.setenv("NOTIFIER_HISTORY_SIZE", "5")
    settings = load()
    assert settings.broker_url == "redis://example:6379/3"
    assert settings.jwt_secret == SECRET
    assert [(str(key), key.scopes) for key in settings.api_keys] == [
        (KEY, frozenset(["publish"])),
        (f"{KEY}2", frozenset(["publish", "admin"])),
    ]
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.history_size == 5
    settings.check_credentials()


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.broker_url == "memory:"
    assert settings.sqlite_synchronous == "full"
    assert (settings.history_size, settings.history_ttl_s) == (256, 7 * 24 * 3600)
    assert (settings.heartbeat_s, settings.drain_s) == (15, 10)
    assert (settings.max_streams_per_user, settings.max_streams_per_address) == (20, 1000)
    assert (settings.prefix, settings.shards) == ("notifier:", 1)
    assert settings.max_event_bytes == 16 * 1024


@pytest.mark.parametrize(
    ("given", "broker_url"),
    [
        ({}, "memory:"),
        ({"broker_url": "memory:"}, "memory:"),
        ({"redis_url": "redis://a"}, "redis://a"),
        ({"broker_url": "redis://a"}, "redis://a"),
        ({"broker_url": "redis://a", "redis_url": "redis://a"}, "redis://a"),
        ({"data_dir": "/var/lib/notifier"}, "sqlite:///var/lib/notifier/notifier.db"),
        ({"data_dir": "/var/lib/a b?#%/"}, "sqlite:///var/lib/a%20b%3F%23%25/notifier.db"),
        ({"data_dir": "/var/lib/notifier", "dev": True}, "memory:"),
        ({"data_dir": "/var/lib/notifier", "redis_url": "redis://a"}, "redis://a"),
        ({"data_dir": "/var/lib/notifier", "broker_url": "memory:"}, "memory:"),
    ],
)
def test_one_address_names_the_broker(given: dict[str, Any], broker_url: str) -> None:
    assert load(**given).broker_url == broker_url


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"broker_url": "redis://a", "redis_url": "redis://b"}, "NOTIFIER_BROKER_URL and NOTIFIER_REDIS_URL"),
        ({"data_dir": "var/lib"}, "NOTIFIER_DATA_DIR"),
    ],
)
def test_addresses_that_contradict_each_other_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load(**given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "redis://localhost:port"),
        ("redis_url", "redis://localhost:99999"),
        ("broker_url", "redis://localhost:99999"),
        ("sqlite_synchronous", "off"),
        ("jwt_secret", "short"),
        ("jwt_secret", "ä" * 15),
        ("api_keys", "short"),
        ("api_keys", f"{KEY}:root"),
        ("cors_origins", "*"),
        ("cors_origins", "example.org"),
        ("cors_origins", "https://example.org/"),
        ("cors_origins", "https://example.org/path"),
        ("history_size", "0"),
        ("history_size", "10001"),
        ("history_size", "many"),
        ("history_ttl_s", "0"),
        ("heartbeat_s", "0"),
        ("heartbeat_s", "nan"),
        ("drain_s", "-1"),
        ("max_streams_per_user", "0"),
        ("max_streams_per_address", "0"),
        ("max_event_bytes", "65537"),
        ("max_backlog_bytes", "1"),
        ("max_replay", "0"),
        ("stream_life_s", "1"),
        ("stream_life_s", "inf"),
        ("publish_rate", "-1"),
        ("publish_rate", "inf"),
        ("metrics", "perhaps"),
        ("prefix", ""),
        ("prefix", "a b"),
        ("prefix", "{a}"),
        ("shards", "0"),
        ("shards", "1025"),
        ("dev", "perhaps"),
    ],
)
def test_a_setting_out_of_its_bounds_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NOTIFIER_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=f"NOTIFIER_{name.upper()}"):
        load()


def test_all_bad_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_SHARDS", "0")
    monkeypatch.setenv("NOTIFIER_PREFIX", "a b")
    with pytest.raises(ConfigurationError, match=r"NOTIFIER_PREFIX.*NOTIFIER_SHARDS"):
        load()


@pytest.mark.parametrize("given", [{}, {"jwt_secret": SECRET}, {"api_keys": KEY}, {"jwt_public_key": "x"}])
def test_credentials_to_publish_and_to_listen_are_required(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_"):
        load(**given).check_credentials()


def test_dev_generates_missing_credentials_and_keeps_given_ones() -> None:
    first, second = load(dev=True), load(dev=True)
    first.check_credentials()
    assert first.jwt_secret != second.jwt_secret
    assert first.api_keys != second.api_keys
    assert first.api_keys[0].scopes == {"publish", "admin"}
    given = load(dev=True, jwt_secret=SECRET, api_keys=KEY)
    assert (given.jwt_secret, given.api_keys) == (SECRET, (KEY,))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().shards = 2


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(load(jwt_secret=SECRET, api_keys=KEY, redis_url="redis://:password@example"))
    assert SECRET not in shown
    assert KEY not in shown
    assert "password" not in shown
    assert KEY not in repr(load(jwt_secret=SECRET, api_keys=KEY).api_keys)


def test_a_refusal_does_not_show_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_JWT_SECRET", "too-short-secret")
    monkeypatch.setenv("NOTIFIER_API_KEYS", "too-short-key")
    with pytest.raises(ConfigurationError) as error:
        load()
    assert "too-short" not in str(error.value)


# Secrets in files


FILES: dict[str, tuple[str, Any]] = {
    "broker_url": ("redis://:password@example\n", "redis://:password@example"),
    "redis_url": ("redis://:password@example\n", "redis://:password@example"),
    "jwt_secret": (f"{SECRET}\n", SECRET),
    "jwt_public_key": ("-----BEGIN PUBLIC KEY-----\nAA==\n", "-----BEGIN PUBLIC KEY-----\nAA=="),
    "api_keys": (f"{KEY}\n{KEY}2:publish+admin\n", (KEY, f"{KEY}2")),
    "hooks": (f"backup:ntfy:all:{KEY}\n", (Hook("backup", "ntfy", ("all",), (KEY,)),)),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    text, value = FILES[name]
    (tmp_path / "secret").write_text(text)
    monkeypatch.setenv(f"NOTIFIER_{name.upper()}_FILE", str(tmp_path / "secret"))
    assert getattr(load(), name) == value


def test_every_setting_that_is_not_shown_may_come_from_a_file() -> None:
    assert {name for name, field in Settings.model_fields.items() if not field.repr} <= set(SECRETS)


def test_a_secret_in_the_environment_and_in_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("NOTIFIER_JWT_SECRET", SECRET)
    monkeypatch.setenv("NOTIFIER_JWT_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match="NOTIFIER_JWT_SECRET and NOTIFIER_JWT_SECRET_FILE are both set"):
        load()


def test_dev_hands_its_workers_the_secret_that_a_file_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NOTIFIER_DEV", "NOTIFIER_JWT_SECRET", "NOTIFIER_API_KEYS"):
        monkeypatch.setenv(name, "")  # restored at the end
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("NOTIFIER_JWT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.delenv("NOTIFIER_DEV")
    settings = load(dev=True)
    _share_dev_settings(settings)
    assert (load().jwt_secrets, load().api_keys) == ((SECRET,), settings.api_keys)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"], ids=["absent", "empty", "blank", "no text"])
def test_a_file_without_a_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    monkeypatch.setenv("NOTIFIER_API_KEYS_FILE", str(tmp_path / "keys"))
    with pytest.raises(ConfigurationError, match=r"NOTIFIER_API_KEYS_FILE: .*keys"):
        load()


def test_several_secrets_are_separated_by_commas() -> None:
    assert load(jwt_secret=f"{SECRET}, {SECRET}2").jwt_secrets == (SECRET, f"{SECRET}2")


def test_a_secret_with_a_comma_and_short_parts_is_still_one_secret() -> None:
    settings = load(jwt_secret="a passphrase, with a comma, of 1.0", api_keys=KEY)
    assert settings.jwt_secrets == ("a passphrase, with a comma, of 1.0",)
    with pytest.raises(ConfigurationError, match="must have at least 32 bytes, not 11"):
        load(jwt_secret="short,short")


@pytest.mark.parametrize("secret", [f"{SECRET}\n", f" {SECRET}", f"{SECRET},"], ids=repr)
def test_one_secret_is_taken_as_it_stands(secret: str) -> None:
    assert load(jwt_secret=secret).jwt_secrets == (secret,)


def test_the_log_names_a_secret_with_a_comma_as_deprecated(caplog: pytest.LogCaptureFixture) -> None:
    build(load(jwt_secret="a passphrase, with a comma, of 1.0", api_keys=KEY))
    assert "NOTIFIER_JWT_SECRET has a comma" in caplog.text


@pytest.mark.parametrize(
    "url", ["issuer.example/keys", "ftp://issuer.example", "https://", "https://a:b@issuer.example"]
)
def test_the_address_of_a_key_set_is_http(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_JWKS_URL: must be an http or https address"):
        load(jwks_url=url)


# API keys


def test_a_key_may_have_a_name_and_targets() -> None:
    (key,) = load(api_keys=f"shop:publish:user:*|topic:order:*|all:{KEY}").api_keys
    assert (str(key), key.name, key.scopes) == (KEY, "shop", {"publish"})
    assert key.targets == ("user:*", "topic:order:*", "all")
    assert ApiKey.parse(key.entry).entry == key.entry
    (key,) = load(api_keys=f"ops:publish+admin::{KEY}").api_keys
    assert (key.name, key.scopes, key.targets) == ("ops", {"publish", "admin"}, ())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (f"shop:publish:{KEY}", "three parts"),
        (f"sh op:publish:all:{KEY}", "name of a key"),
        (f"shop:root:all:{KEY}", "a scope that does not exist"),
        (f"shop:publish:users:{KEY}", "one that is not"),
        (f"shop:publish:user::{KEY}", "one that is not"),
        (f"django-production:{KEY}", "a scope that does not exist"),
        (f"shop:publish:{KEY}:topic:orders-of-the-shop", "one that is not"),
        (f"{KEY}{KEY}{KEY}!:publish:all:{KEY}", "name of a key"),
        (f"shop:publish+admin:user:*:{KEY}", "cannot have the scope admin"),
        ("shop:publish:all:short", "at least 16 characters"),
    ],
)
def test_a_key_with_a_fault_is_refused_by_name(entry: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"NOTIFIER_API_KEYS: entry 1: .*{reason}") as error:
        load(api_keys=entry)
    assert KEY not in str(error.value)
