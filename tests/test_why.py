"""`notifier why`, against a running service."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from notifier.cli import main
from notifier.why import REASONS, VERDICTS, words
from tests.api.support import User, calling, data_of, unique
from tests.support import ADMIN_KEY, API_KEY, Service


def why(service: Service, *arguments: str, key: str = ADMIN_KEY) -> Result:
    return CliRunner().invoke(main, ["why", *arguments, "--url", service.url, "--key", key])


def sent_to(service: Service, user: User) -> str:
    with calling(service, API_KEY) as publisher:
        body = {"to": [f"user:{user.name}"], "subject": "s", "text": "t"}
        message_id: str = publisher.post("/v1/messages", json=body).json()["id"]
        return message_id


def test_it_says_what_became_of_a_message(service: Service) -> None:
    user = User(service, unique())
    with user.client, user.listen() as stream:
        stream.next("hello")
        sent = sent_to(service, user)
        assert data_of(stream.next("message"))["id"] == sent
        result = why(service, user.name, sent)
        assert result.exit_code == 0, result.output
        assert result.output.startswith("written: It was written to a stream of the user, at 20")
        assert "python-httpx" in result.output
        trace = json.loads(why(service, user.name, sent, "--json").output)
        assert (trace["verdict"], trace["user"]) == ("written", user.name)


def test_a_message_in_the_answer_to_a_poll(service: Service) -> None:
    user = User(service, unique())
    with user.client:
        cursor = user.client.get("/v1/poll").json()["cursor"]
        sent = sent_to(service, user)
        between = why(service, user.name, sent)
        assert (between.exit_code, "it gets it with its next poll" in between.output) == (1, True), between.output
        for _ in range(2):
            cursor = user.client.get("/v1/poll", params={"after": cursor, "wait_s": 0}).json()["cursor"]
        result = why(service, user.name, sent)
    assert result.exit_code == 0, result.output
    verdict, _, reason, connection, *_ = result.output.splitlines()
    assert verdict.startswith("written: It was in the answer to a poll of the user, at 20")
    assert reason == "The client's next cursor confirms it."
    assert "3 polls, python-httpx" in connection


def test_a_message_that_waits_is_an_exit_code_of_1(service: Service) -> None:
    user = User(service, unique())
    with user.client:
        result = why(service, user.name, sent_to(service, user))
    assert result.exit_code == 1
    assert "The user has no open connection." in result.output


def test_what_cannot_be_asked_is_an_exit_code_of_2(service: Service) -> None:
    unknown = why(service, "ann", "no-such-message")
    assert (unknown.exit_code, "404: id" in unknown.output) == (2, True), unknown.output
    refused = why(service, "ann", "m", key=API_KEY)
    assert (refused.exit_code, "admin" in refused.output) == (2, True), refused.output
    away = CliRunner().invoke(main, ["why", "ann", "m", "--url", "http://127.0.0.1:9", "--key", ADMIN_KEY])
    assert (away.exit_code, "cannot ask" in away.output) == (2, True), away.output


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("reason", [None, *REASONS])
def test_every_verdict_has_words(verdict: str, reason: str | None) -> None:
    trace = {
        "verdict": verdict,
        "reason": reason,
        "at": None,
        "accepted_at": None,
        "publisher": None,
        "channels": [],
        "connections": [],
    }
    assert words(trace)[0].startswith(f"{verdict}: ")
