"""What a command takes from the environment: settings, a key, a token; or the end of the command with the reason.

Must not know: what a command does with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from notifier import address
from notifier.api_key import MIN_KEY_CHARS, is_key
from notifier.errors import ConfigurationError, NotifierError
from notifier.settings import Settings, from_file, load

F = TypeVar("F", bound=Callable[..., Any])


def _address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return address.checked(value)
    except ConfigurationError as exc:
        refuse(str(exc))


def _secret(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The option's value; else that of its variable, or of the file that `<variable>_FILE` names.

    A header carries it. What no header can carry is refused here, without its text: libraries quote it.
    """
    name = parameter.opts[0]
    if context.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.COMMANDLINE:
        name = str(parameter.envvar)
        try:
            text = from_file(name)
        except ConfigurationError as exc:
            refuse(str(exc))
        if text:
            name, value = f"{name}_FILE", text
    if not value:
        return value
    if parameter.name == "api_key" and not is_key(value):
        refuse(
            f"{name}: must be one key, without its scopes: a line of {MIN_KEY_CHARS} or more characters of printable "
            "ASCII, without ',', ':' and spaces at its edges"
        )
    if not (value.isascii() and value.isprintable()):
        refuse(f"{name}: must be one token: a line of printable ASCII")
    return value


def key_option(description: str) -> Callable[[F], F]:
    """`--key`, or `NOTIFIER_API_KEY`, or the file that `NOTIFIER_API_KEY_FILE` names."""
    return click.option(
        "--key", "api_key", envvar="NOTIFIER_API_KEY", show_envvar=True, callback=_secret, help=description
    )


def token_option(description: str) -> Callable[[F], F]:
    """`--token`, or `NOTIFIER_TOKEN`, or the file that `NOTIFIER_TOKEN_FILE` names."""
    return click.option(
        "--token", "given", envvar="NOTIFIER_TOKEN", show_envvar=True, callback=_secret, help=description
    )


SERVICE_OPTION = click.option(
    "--url",
    "service",
    envvar="NOTIFIER_URL",
    show_envvar=True,
    default="http://127.0.0.1:8000",
    show_default=True,
    callback=_address,
    help="Where the service is.",
)
KEY_OPTION = key_option("API key; by default the first of NOTIFIER_API_KEYS.")


def read_settings(**overrides: Any) -> Settings:
    try:
        return load(**overrides)
    except ConfigurationError as exc:
        refuse(str(exc))


def refuse(reason: str) -> NoReturn:
    """End the command with the exit code 2."""
    click.echo(f"notifier: {reason}", err=True)
    sys.exit(2)


def token_of(user: str | None) -> str:
    settings = read_settings()
    if not user or not settings.jwt_secret:
        refuse("give --token, or --user and NOTIFIER_JWT_SECRET")
    return signed(settings, user)


def signed(settings: Settings, user: str, **claims: Any) -> str:
    """A subscriber's token, signed with the first secret."""
    from notifier import auth

    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    try:
        return auth.subscriber_token(settings.jwt_secrets[0], user, **claims)
    except NotifierError as exc:
        refuse(str(exc))


def first_key(scope: str = "") -> str:
    """The first of `NOTIFIER_API_KEYS` that has this scope; any scope by default."""
    for key in read_settings().api_keys:
        if not scope or scope in key.scopes:
            return str(key)
    refuse("give --key, or set NOTIFIER_API_KEY" + (f": a key with the scope {scope}" if scope else ""))
