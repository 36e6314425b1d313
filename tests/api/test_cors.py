"""CORS: the pages of other origins that may use the service from a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.api.conftest import ONE_BROKER, ORIGIN
from tests.api.support import Listening, User, calling
from tests.support import API_KEY, Service, bearer, running, wait_for

pytestmark = ONE_BROKER

FOREIGN = ["https://evil.example", ORIGIN + ".evil.example", ORIGIN.replace("https", "http"), "null"]
ALLOW_ORIGIN = "Access-Control-Allow-Origin"


@pytest.fixture
def page(tight: Service) -> Iterator[httpx.Client]:
    """A page of the allowed origin."""
    with calling(tight) as client:
        client.headers["Origin"] = ORIGIN
        yield client


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("GET", "/v1/stream", "Authorization"),
        ("GET", "/v1/stream", "Last-Event-ID"),
        ("GET", "/v1/inbox", "Authorization"),
        ("POST", "/v1/inbox/read", "Content-Type"),
        ("DELETE", "/v1/inbox/m1", "Authorization"),
        ("PATCH", "/v1/tasks/t1", "Idempotency-Key"),
    ],
)
def test_an_allowed_page_may_call_with_credentials_and_the_headers_of_the_contract(
    page: httpx.Client, method: str, path: str, header: str
) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
    response = page.options(path, headers=asked)
    assert response.status_code == 200
    assert response.headers[ALLOW_ORIGIN] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert method in response.headers["Access-Control-Allow-Methods"]
    assert header.lower() in response.headers["Access-Control-Allow-Headers"].lower()
    assert response.headers["Access-Control-Max-Age"] == "7200", "a stream that comes back needs no further preflight"


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_may_not(page: httpx.Client, origin: str) -> None:
    asked = {"Access-Control-Request-Method": "GET", "Origin": origin}
    preflight = page.options("/v1/inbox", headers=asked)
    assert preflight.status_code == 400
    assert ALLOW_ORIGIN not in preflight.headers
    assert ALLOW_ORIGIN not in page.get("/v1/inbox", headers={"Origin": origin}).headers


def test_an_allowed_page_may_read_responses_problems_and_retry_after(
    tight: Service, page: httpx.Client, user_of: Callable[..., User]
) -> None:
    user = user_of(tight)
    for headers, status in ((bearer(user.token), 200), (bearer(API_KEY), 401), ({}, 401)):
        response = page.get("/v1/inbox", headers=headers)
        assert response.status_code == status
        assert response.headers[ALLOW_ORIGIN] == ORIGIN
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
        assert "Origin" in response.headers["Vary"]


def test_an_allowed_page_may_read_a_stream(tight: Service, user_of: Callable[..., User]) -> None:
    user = user_of(tight)
    with Listening(tight, {**bearer(user.token), "Origin": ORIGIN}) as stream:
        assert stream.response.headers[ALLOW_ORIGIN] == ORIGIN
        assert stream.response.headers["Access-Control-Allow-Credentials"] == "true"
        stream.next("hello")
    with Listening(tight, {**bearer(user.token), "Origin": FOREIGN[0]}) as stream:
        assert ALLOW_ORIGIN not in stream.response.headers


def test_without_allowed_origins_no_page_of_another_origin_may_read_anything(api: Service, user: User) -> None:
    response = user.client.get("/v1/inbox", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.lower().startswith("access-control-")]


def test_the_browser_client_may_be_loaded_by_any_page(anyone: httpx.Client) -> None:
    response = anyone.get("/client/notifier.js", headers={"Origin": FOREIGN[0]})
    assert response.status_code == 200
    assert response.headers[ALLOW_ORIGIN] == "*"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "javascript" in response.headers["Content-Type"]


def test_a_refused_page_is_one_line_in_the_log_and_pages_of_the_service_are_none() -> None:
    with running(Service(env={"NOTIFIER_CORS_ORIGINS": ORIGIN})) as service, calling(service) as client:
        own = {"Origin": service.url}
        behind_a_proxy = {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}
        asked = {"Origin": FOREIGN[0], "Access-Control-Request-Method": "GET"}
        for headers in (own, behind_a_proxy, {"Origin": ORIGIN}, {}):
            client.get("/v1/inbox", headers=headers)
        client.get("/client/notifier.js", headers={"Origin": "https://any.example"})
        for _ in range(2):
            client.options("/v1/inbox", headers=asked)
            client.get("/v1/inbox", headers=asked)
        line = f"refused a page of the origin '{FOREIGN[0]}': NOTIFIER_CORS_ORIGINS is {ORIGIN}"
        wait_for(lambda: line in service.process.output(), what="the line")
        assert service.process.output().count("refused a page") == 1
