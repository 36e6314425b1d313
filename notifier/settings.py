"""Every setting of the service, read from `NOTIFIER_*` environment variables into a frozen value.

docs/settings.md has the same table; a test compares the two. Must not know: who uses a setting.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from notifier.api_key import ApiKey
from notifier.errors import ConfigurationError
from notifier.hook import Hook, joined
from notifier.jwt_secret import MIN_SECRET_BYTES, divided

SECRETS: Final = ("broker_url", "redis_url", "jwt_secret", "jwt_public_key", "api_keys", "hooks")
"""Settings that may be read from a file, which `NOTIFIER_<NAME>_FILE` names."""


T = TypeVar("T")


class _SecretFiles(PydanticBaseSettingsSource):
    """The settings that files have: of containers' and systemd's secrets."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # `__call__` reads all at once

    def __call__(self) -> dict[str, Any]:
        return {name: value for name in SECRETS if (value := from_file(f"NOTIFIER_{name.upper()}")) is not None}


def from_file(variable: str) -> str | None:
    """The text of the file that `<variable>_FILE` names, None without one. Raises `ConfigurationError`."""
    path = os.environ.get(f"{variable}_FILE", "")
    if not path:
        return None
    if os.environ.get(variable):
        raise ConfigurationError(f"{variable} and {variable}_FILE are both set: set one of them")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{variable}_FILE: cannot read {path}: {exc}") from None
    if not text:
        raise ConfigurationError(f"{variable}_FILE: the file {path} is empty")
    return text


class Settings(BaseSettings):
    """The service's settings. Raises `ConfigurationError` through `load`."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _SecretFiles(settings_cls), env_settings

    broker_url: str = Field(
        "",
        repr=False,
        description="`memory:`, `sqlite:///absolute/path`, `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or "
        "`redis+cluster://`; several `redis://` addresses, separated by commas, have a shard each. Empty: the file "
        "`notifier.db` in `NOTIFIER_DATA_DIR`, or `memory:` without it.",
    )
    redis_url: str = Field("", repr=False, description="The earlier name of `NOTIFIER_BROKER_URL`.")
    data_dir: str = Field("", description="Folder of `notifier.db`. Not used with a broker's address, or with `--dev`.")
    sqlite_synchronous: Literal["full", "normal"] = Field(
        "full",
        description="`full`: an answered publish survives a loss of power. `normal`: the newest may be lost with it.",
    )
    jwt_secret: str = Field(
        "",
        repr=False,
        description="Secret of tokens, as text: at least 32 bytes (HS384 48, HS512 64). Several, separated by commas, "
        "are all accepted, and the first signs. A secret, a public key or a key set is needed.",
    )
    jwt_public_key: str = Field("", description="Public keys (PEM) of RS256, ES256 or EdDSA tokens: one, or several.")
    jwks_url: str = Field("", description="Address of a JWK set: the public keys of an issuer, which change.")
    jwt_issuer: str = Field("", description="When set, tokens must carry this `iss`.")
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Publishers' keys, separated by commas: `key`, `key:publish+admin` or `name:scopes:targets:key`; "
        "16+ characters of ASCII.",
    )
    hooks: Annotated[tuple[Hook, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Addresses that other systems post to, separated by commas: `name:kind:recipients:key`. The kind "
        "is `alertmanager`, `grafana` or `ntfy`; recipients are separated by a vertical bar; a key has 16+ characters.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may use the service, separated by commas."
    )
    history_size: int = Field(256, ge=1, le=10_000, description="Messages kept for each channel.")
    event_history_size: int = Field(256, ge=1, le=10_000, description="Other durable events kept for each channel.")
    history_ttl_s: int = Field(7 * 24 * 3600, ge=1, description="How long a channel's history outlives its last event.")
    topic_history_size: int = Field(
        32, ge=1, le=10_000, description="Messages, and other durable events, kept for each topic."
    )
    topic_history_ttl_s: int = Field(
        900, ge=1, description="How long a topic's history outlives its last event. Nothing of the topic stays longer."
    )
    heartbeat_s: float = Field(15, ge=0.2, le=300, description="Seconds between two `ping` events of a stream.")
    drain_s: float = Field(10, ge=0, le=300, description="Seconds over which streams are ended when the service stops.")
    max_streams_per_user: int = Field(20, ge=1, description="Open streams of one user in one process.")
    max_streams_per_address: int = Field(1000, ge=1, description="Open streams of one client address in one process.")
    max_event_bytes: int = Field(16 * 1024, ge=256, le=64 * 1024, description="Largest encoded data of one event.")
    max_backlog_bytes: int = Field(
        256 * 1024,
        ge=16 * 1024,
        description="Most unsent bytes of a stream; with more, it reads on from history when its client has caught up.",
    )
    publish_rate: float = Field(
        1000,
        ge=0,
        allow_inf_nan=False,
        description="Items per second that a key may publish through one process; bursts are twice that; 0: no limit.",
    )
    max_replay: int = Field(2000, ge=1, description="Most events replayed after a reconnect; with more, a reset.")
    stream_life_s: float = Field(
        600,
        ge=2,
        le=7 * 24 * 3600,
        description="Each stream is ended after a random time between half of this and all of it.",
    )
    task_stalled_s: float = Field(
        30, ge=0.5, le=86_400, description="Time after a producer's last heartbeat until its task is stalled."
    )
    task_failed_s: float = Field(3600, ge=1, le=604_800, description="The same, until its task is failed.")
    task_output_bytes: int = Field(
        256 * 1024,
        ge=16 * 1024,
        description="Output kept for each task; the oldest goes first.",
    )
    connections_ttl_s: int = Field(
        86_400, ge=60, le=604_800, description="How long the records of a user's last connections are kept."
    )
    prefix: str = Field("notifier:", description="Prefix of all Redis keys.")
    shards: int = Field(1, ge=1, le=1024, description="Redis hash tags over which users are spread.")
    redis_wait_replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="Replicas of Redis that must have a write before it is answered; with fewer, a 503. 0: none.",
    )
    log: Literal["text", "json"] = Field("text", description="Form of the log: lines of text, or a JSON object a line.")
    metrics: bool = Field(True, description="Whether `GET /metrics` answers.")
    tracing: bool = Field(False, description="Whether publishes are OpenTelemetry spans; needs the extra `tracing`.")
    console: bool = Field(False, description="Whether `/console` answers: the page for operators.")
    dev: bool = Field(False, description="Generates a secret and a key if none are set, and serves `/demo`.")

    @field_validator("broker_url", "redis_url")
    @classmethod
    def _address(cls, value: str) -> str:
        # Which schemes there are, the brokers' registry knows; what an address of several hosts means, the broker.
        if "," not in value:
            _ = urlsplit(value).port  # raises ValueError
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", value):
            raise ValueError("must be 1 to 64 of A-Z a-z 0-9 . _ : -")
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _jwt_secret(cls, value: str) -> str:
        if value and len(value.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes, not {len(value.encode())}")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _jwks_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
            raise ValueError("must be an http or https address without a user")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        origins = _words(value)
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ValueError(f"{origin!r} is not an origin such as https://example.org")
        return origins

    @field_validator("api_keys", mode="before")
    @classmethod
    def _api_keys(cls, value: Any) -> Any:
        return tuple(
            item if isinstance(item, ApiKey) else _entry(ApiKey.parse, item, place)
            for place, item in enumerate(_words(value), 1)
        )

    @field_validator("hooks", mode="before")
    @classmethod
    def _hooks(cls, value: Any) -> Any:
        return joined(
            item if isinstance(item, Hook) else _entry(Hook.parse, item, place)
            for place, item in enumerate(_words(value), 1)
        )

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """The secrets of tokens. The first signs."""
        return divided(self.jwt_secret)

    @property
    def verifies(self) -> bool:
        """True if there is something that tokens can be verified with."""
        return bool(self.jwt_secret or self.jwt_public_key or self.jwks_url)

    @model_validator(mode="after")
    def _one_broker(self) -> Self:
        if self.redis_url and self.broker_url not in ("", self.redis_url):
            raise ValueError("NOTIFIER_BROKER_URL and NOTIFIER_REDIS_URL name different brokers: set one of them")
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.redis_url or self._default_broker())
        return self

    def _default_broker(self) -> str:
        if not self.data_dir or self.dev:
            return "memory:"
        if not self.data_dir.startswith("/"):
            raise ValueError(f"NOTIFIER_DATA_DIR: must be an absolute path, not {self.data_dir!r}")
        return f"sqlite://{quote(self.data_dir.rstrip('/'))}/notifier.db"

    @property
    def broker_variable(self) -> str:
        """The environment variable that names the broker, for messages."""
        if self.redis_url:
            return "NOTIFIER_REDIS_URL"
        return (
            "NOTIFIER_DATA_DIR"
            if self.data_dir and self.broker_url == self._default_broker()
            else "NOTIFIER_BROKER_URL"
        )

    @model_validator(mode="after")
    def _dev_credentials(self) -> Self:
        if self.dev:
            if not self.verifies:
                object.__setattr__(self, "jwt_secret", secrets.token_urlsafe(32))
            if not self.api_keys:
                object.__setattr__(self, "api_keys", (ApiKey.parse(secrets.token_urlsafe(24) + ":publish+admin"),))
        return self

    def check_credentials(self) -> None:
        """Raises `ConfigurationError` without the credentials that subscribers and publishers need."""
        if not self.verifies:
            raise ConfigurationError(
                "NOTIFIER_JWT_SECRET, NOTIFIER_JWT_PUBLIC_KEY or NOTIFIER_JWKS_URL must be set: without any, no client "
                "can listen. "
                "To try the service, `notifier serve --dev` generates its own."
            )
        if not self.api_keys:
            raise ConfigurationError(
                "NOTIFIER_API_KEYS must be set: without a key, no client can publish. "
                "To try the service, `notifier serve --dev` generates its own."
            )


def load(**overrides: Any) -> Settings:
    """The settings from the environment, with some replaced. Raises `ConfigurationError` naming the variable."""
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigurationError("; ".join(_detail(error["loc"], error["msg"]) for error in exc.errors())) from None


def _detail(loc: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"NOTIFIER_{'_'.join(map(str, loc)).upper()}: {message}" if loc else message


def _entry(parse: Callable[[str], T], entry: str, place: int) -> T:
    try:
        return parse(entry)
    except ValueError as exc:
        raise ValueError(f"entry {place}: {exc}") from None


def _words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in re.split("[,\n]", value) if word.strip())
