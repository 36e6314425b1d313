"""Inbox and tasks: who may call them, with a token or by cookie."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import ONE_BROKER, ORIGIN
from tests.api.support import User, calling, problem_of, send
from tests.support import API_KEY, Service

pytestmark = ONE_BROKER

CALLS = [
    ("GET", "/v1/inbox"),
    ("GET", "/v1/inbox/unread"),
    ("POST", "/v1/inbox/read"),
    ("DELETE", "/v1/inbox/m1"),
    ("GET", "/v1/tasks"),
    ("POST", "/v1/tasks/t1/cancel"),
    ("DELETE", "/v1/tasks/t1"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_a_subscribers_token_nothing_is_shown(
    anyone: httpx.Client, publisher: httpx.Client, user: User, method: str, path: str
) -> None:
    for client in (anyone, publisher):
        problem = client.request(method, path)
        problem_of(problem, 401)
        assert problem.headers["WWW-Authenticate"].startswith("Bearer ")
    problem_of(anyone.request(method, path, params={"token": user.token}), 401)


def test_responses_about_a_user_are_not_to_be_cached(user: User) -> None:
    for path in ("/v1/inbox", "/v1/inbox/unread", "/v1/tasks"):
        assert user.client.get(path).headers["Cache-Control"] == "no-store"


# By cookie


def cookie(user: User, **headers: str) -> dict[str, str]:
    return {"Cookie": f"notifier_token={user.token}", **headers}


def test_a_cookie_reads_without_an_origin(anyone: httpx.Client, user: User) -> None:
    for path in ("/v1/inbox", "/v1/inbox/unread", "/v1/tasks"):
        assert anyone.get(path, headers=cookie(user)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "", "null", "https://evil.example", "http://[", "https://127.0.0.1", "http://127.0.0.1:1", "//", "*"],
)
def test_a_change_by_cookie_needs_an_allowed_origin(
    anyone: httpx.Client, publisher: httpx.Client, user: User, origin: str | None
) -> None:
    identity = send(publisher, user)
    headers = cookie(user) if origin is None else cookie(user, Origin=origin)
    with user.sees_no_change():
        problem_of(anyone.post("/v1/inbox/read", json={"all": True}, headers=headers), 403, "Origin")
        problem_of(anyone.delete(f"/v1/inbox/{identity}", headers=headers), 403, "Origin")
        problem_of(anyone.post("/v1/tasks/t1/cancel", headers=headers), 403, "Origin")
        problem_of(anyone.delete("/v1/tasks/t1", headers=headers), 403, "Origin")


def test_a_change_by_cookie_from_the_services_own_pages_passes(
    api: Service, anyone: httpx.Client, publisher: httpx.Client, user: User
) -> None:
    send(publisher, user)
    response = anyone.post("/v1/inbox/read", json={"all": True}, headers=cookie(user, Origin=api.url))
    assert response.json() == {"unread": 0}


def test_a_change_by_cookie_from_an_origin_of_the_settings_passes(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    with calling(tight, API_KEY) as publisher, calling(tight) as anyone:
        send(publisher, user)
        response = anyone.post("/v1/inbox/read", json={"all": True}, headers=cookie(user, Origin=ORIGIN))
        assert response.json() == {"unread": 0}
        for other in (f"{ORIGIN}.evil.example", ORIGIN.replace("https", "http"), f"{ORIGIN}:444", ORIGIN + "/"):
            response = anyone.post("/v1/inbox/read", json={"all": True}, headers=cookie(user, Origin=other))
            problem_of(response, 403, "Origin")


def test_a_change_with_a_token_in_the_header_needs_no_origin(user: User) -> None:
    response = user.client.post("/v1/inbox/read", json={"all": True}, headers={"Origin": "https://evil.example"})
    assert response.status_code == 200
