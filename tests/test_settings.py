"""The settings: their bounds, and that a bad one is named before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.errors import ConfigurationError
from notifier.settings import Settings, load

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
    found = load()
    assert found.redis_url == "redis://example:6379/3"
    assert found.jwt_secret == SECRET
    assert [(str(key), key.scopes) for key in found.api_keys] == [
        (KEY, frozenset(["publish"])),
        (f"{KEY}2", frozenset(["publish", "admin"])),
    ]
    assert found.cors_origins == ("https://a.example", "http://localhost:3000")
    assert found.history_size == 5
    found.check_credentials()


def test_the_defaults_are_those_of_the_contract() -> None:
    found = load()
    assert found.redis_url == ""
    assert (found.history_size, found.history_ttl_s) == (256, 7 * 24 * 3600)
    assert (found.heartbeat_s, found.drain_s) == (15, 10)
    assert (found.max_streams_per_user, found.max_streams_per_address) == (20, 1000)
    assert (found.prefix, found.shards) == ("notifier:", 1)
    assert found.max_event_bytes == 16 * 1024


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "localhost:6379"),
        ("redis_url", "http://localhost"),
        ("redis_url", "redis://localhost:port"),
        ("redis_url", "redis://localhost:99999"),
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
def test_without_a_secret_and_keys_nobody_could_publish_and_listen(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="NOTIFIER_"):
        load(**given).check_credentials()


def test_dev_makes_what_is_missing_and_leaves_what_is_given() -> None:
    made, again = load(dev=True), load(dev=True)
    made.check_credentials()
    assert made.jwt_secret != again.jwt_secret
    assert made.api_keys != again.api_keys
    assert made.api_keys[0].scopes == {"publish", "admin"}
    given = load(dev=True, jwt_secret=SECRET, api_keys=KEY)
    assert (given.jwt_secret, given.api_keys) == (SECRET, (KEY,))


def test_settings_do_not_change() -> None:
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
    with pytest.raises(ConfigurationError) as fault:
        load()
    assert "too-short" not in str(fault.value)
