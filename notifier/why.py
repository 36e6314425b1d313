"""`notifier why`: what became of a message for a user, in words, with what to do.

Asks a running service. Must not know: how verdicts are made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import click

from notifier import address
from notifier.check.result import CannotAsk
from notifier.credentials import SERVICE_OPTION, first_key, key_option, refuse

SEEN: Final = frozenset(("written", "replayed", "read"))
"""The verdicts on a message that the user's client has."""

VERDICTS: Final[Mapping[str, str]] = {
    "written": "It was written to a stream of the user",
    "replayed": "It was replayed to the user after a reconnect",
    "waiting": "No client of the user has it yet; it is in the history and in the inbox",
    "missed_reset": "The stream was reset after it: the client was told to list the inbox again, where it is",
    "excluded": "The publish left out the user (`except`), or the connections of the user (`except_connection`)",
    "not_a_recipient": "It was sent to channels that no connection of the user heard",
    "expired": "Its time was over before a client of the user had it",
    "read": "The user has read or deleted it, on some device",
}
BY_POLL: Final = "It was in the answer to a poll of the user"
"""Of `written` and `replayed`, where the client polls."""
BEFORE_RECORDS: Final[Mapping[str, str]] = {
    "written": "A client of the user came back with a cursor that has it",
    "waiting": "No recorded connection of the user had it; it is in the history and in the inbox",
    "expired": "Its time is over, and no recorded connection of the user had it",
}
"""The same of a message from before the recorded connections."""
REASONS: Final[Mapping[str, str]] = {
    "acknowledged": "the client's next cursor confirms it",
    "unconfirmed": "the client has sent no later cursor that would confirm it",
    "retracted": "the publisher retracted it",
    "replaced": "a newer message with the same key replaced it",
    "offline": "the user has no open connection",
    "behind": "the stream has not reached it: its reader is slow, or the broker was away",
    "unsent": "the connection ended before the client had taken it; the next one replays it",
    "process_ended": "the process with the stream ended without a word, so it is not known how far the client came",
    "in_inbox": "the page connected without a cursor after it was sent, and lists it in the inbox",
    "between_polls": "the client polls, and has just had an answer; it gets it with its next poll",
    "without_messages": "the stream has a format without messages (`format=turbo`)",
    "before_records": "connections of that time are no longer recorded, so more is not known",
}
FIXES: Final[Mapping[str, str]] = {
    "written": "If the page does not show it, look at the page: its console, and what handles the event `message`.",
    "unconfirmed": "If the page does not show it, run `notifier doctor`: a proxy may hold it back.",
    "waiting": "It is delivered when the user's client connects with its cursor, or opens the inbox.",
    "behind": "Look at the connection's network, and at `notifier doctor`; the stream reads on by itself.",
    "missed_reset": "The page must list the inbox after `reset`; a longer history makes resets rarer.",
    "excluded": "Publish without the user in `except`, and without the connection in `except_connection`.",
    "not_a_recipient": "Compare `to` of the publish with the groups in the user's token; a new token hears new groups.",
    "expired": "Publish with a later `expires_at`, or without one.",
    "retracted": "The publisher's log says why; the user has no copy.",
    "replaced": "The user has the newer message, or will have it.",
    "before_records": "Ask sooner, or raise NOTIFIER_CONNECTIONS_TTL_S; 20 connections of a user are recorded.",
    "process_ended": "A client that comes back with its cursor gets what it lacks, as long as the history has it.",
}


def ask(service: str, key: str, user: str, message_id: str, to: Sequence[str]) -> dict[str, Any]:
    """The service's trace. Raises `CannotAsk`."""
    import httpx

    url = f"{service}/v1/messages/{quote(message_id, safe='')}/trace"
    query: dict[str, str | list[str]] = {"user": user, "to": list(to)}
    try:
        response = httpx.get(url, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise CannotAsk(f"cannot ask {service}: {address.reason(exc)}") from None
    if response.status_code != 200:
        raise CannotAsk(address.problem(response))
    try:
        answer: dict[str, Any] = response.json()
        known = answer["verdict"] in VERDICTS
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise CannotAsk(f"200: {address.detail(response)}")
    return answer


def words(trace: Mapping[str, Any]) -> list[str]:
    """A trace as lines of text."""
    verdict, reason = trace["verdict"], trace["reason"]
    known = BEFORE_RECORDS if reason == "before_records" else {}
    meaning = BY_POLL if _is_of_poll(trace) else known.get(verdict, VERDICTS[verdict])
    at = f", at {trace['at']}" if trace["at"] else ""
    channels = ", ".join(trace["channels"]) or "others"
    accepted = f"Accepted {trace['accepted_at'] or 'at an unknown time'}"
    lines = [
        f"{verdict}: {meaning}{at}.",
        f"{accepted} from {trace['publisher'] or 'an unknown publisher'}, for {channels}.",
    ]
    if reason:
        words = REASONS.get(reason, reason)  # a newer service has more reasons
        lines.append(f"{words[0].upper()}{words[1:]}.")
    for each in trace["connections"]:
        end = f"until {each['closed_at']} ({each['closed_why']})" if each["closed_at"] else each["closed_why"] or "open"
        lines.append(
            f"  {each['step']:<13} {each['opened_at']} {end}, {each['address']}, process {each['process']}, "
            f"{each['from'] or 'no cursor'} to {each['to']}, {_polls(each)}{each['user_agent'] or 'no user agent'}"
        )
    if fix := FIXES.get(reason) or FIXES.get(verdict):
        lines.append(fix)
    return lines


def _is_of_poll(trace: Mapping[str, Any]) -> bool:
    """True if the last connection that had the message polls."""
    deliveries = [each for each in trace["connections"] if each["step"] in ("written", "replayed")]
    return trace["verdict"] in ("written", "replayed") and bool(deliveries) and bool(deliveries[-1].get("polls"))


def _polls(connection: Mapping[str, Any]) -> str:
    count = connection.get("polls", 0)  # of an earlier service
    return "" if not count else "1 poll, " if count == 1 else f"{count} polls, "


@click.command()
@click.argument("user")
@click.argument("message_id")
@click.option("--to", multiple=True, help="A channel that it was sent to, such as group:staff; may be repeated.")
@SERVICE_OPTION
@key_option("A key with the scope admin; else that of NOTIFIER_API_KEYS.")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
def why(user: str, message_id: str, to: tuple[str, ...], service: str, api_key: str | None, as_json: bool) -> None:
    """Say what became of the message MESSAGE_ID for USER, and what to do.

    The exit code is 0 where a client of the user has it, or the user has read it; 1 where not; 2 where that cannot be
    asked.
    """
    import json

    try:
        trace = ask(service, api_key or first_key("admin"), user, message_id, to)
    except CannotAsk as exc:
        refuse(str(exc))
    click.echo(json.dumps(trace, indent=2) if as_json else "\n".join(words(trace)))
    sys.exit(0 if trace["verdict"] in SEEN else 1)
