"""The page that Django renders, with `client/django.js`: config, DOM events, tokens. Routes play Django's side."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from notifier.auth import topic_grant
from tests.browser.conftest import Witness
from tests.support import JWT_SECRET, Service, subscriber_token, wait_for

NAMES = ["hello", "message", "task", "inbox", "reset", "state", "connectionState", "order.paid"]
COLLECT = """names => {
  window.seen = [];
  for (const name of names) document.addEventListener(`notifier:${name}`, ({ detail }) => seen.push({ name, detail }));
}"""


class Django:
    """A page with a config, and the address of the next token."""

    def __init__(self, context: BrowserContext, service: Service, witness: Witness) -> None:
        self.context = context
        self.service = service
        self.token_answers: list[Callable[[Route], None]] = []
        self.tokens_asked = 0
        context.route(f"{service.url}/token/", self._answer_token)
        self.page: Page = context.new_page()
        witness.watch(self.page)
        self.page.add_init_script(f"({COLLECT})({json.dumps(NAMES)})")

    def show(self, config: dict[str, Any] | None, parts: str = "") -> None:
        """Shows a page with this config; without a config, the page of an anonymous user."""
        element = (
            f'<script id="notifier-config" type="application/json">{json.dumps(config)}</script>' if config else ""
        )
        body = f'<h1>Page</h1>{parts}{element}<script type="module" src="/client/django.js"></script>'
        self.context.route(f"{self.service.url}/page", lambda route: route.fulfill(body=body, content_type="text/html"))
        self.page.goto(f"{self.service.url}/page")

    def wait(self, name: str, condition: str = "true") -> Any:
        """The first detail of a DOM event for which the condition on `detail` holds."""
        pick = f"seen.find(({{ name, detail }}) => name === wanted && ({condition}))?.detail"
        return self.page.wait_for_function(f"wanted => {pick}", arg=name).json_value()

    def _answer_token(self, route: Route) -> None:
        self.tokens_asked += 1
        self.token_answers[min(self.tokens_asked, len(self.token_answers)) - 1](route)


def token_answer(token: str, expires_in: float) -> Callable[[Route], None]:
    return lambda route: route.fulfill(json={"token": token, "expires_in": expires_in})


@pytest.fixture
def django(context: BrowserContext, service: Service, witness: Witness) -> Django:
    return Django(context, service, witness)


def test_every_event_comes_to_the_document(django: Django, service: Service, witness: Witness) -> None:
    django.show({"url": service.url, "token": subscriber_token("cleo")})
    assert django.wait("hello")["recovered"] is True
    assert django.wait("state") == {"state": "live", "reason": "hello", "final": False}
    assert django.wait("connectionState", "detail.state === 'open'")["reason"] == "hello"
    with service.client() as client, service.user("cleo") as cleo:
        client.post("/v1/messages", json={"to": ["user:cleo"], "subject": "Hi"}).raise_for_status()
        client.post("/v1/tasks", json={"to": ["user:cleo"], "name": "Walk"})
        client.post("/v1/events", json={"to": ["user:cleo"], "type": "order.paid", "data": [1]})
        assert django.wait("message")["subject"] == "Hi"
        assert django.wait("task")["name"] == "Walk"
        assert django.wait("order.paid") == [1]
        cleo.post("/v1/inbox/read", json={"all": True})
        assert django.wait("inbox")["unread"] == 0
    page = django.page.evaluate("notifier.inbox().then(({ messages }) => messages.map(({ subject }) => subject))")
    assert page == ["Hi"]
    assert witness.faults == []


def test_a_cookie_is_enough_and_events_of_any_name_come_too(
    django: Django, service: Service, context: BrowserContext
) -> None:
    context.add_cookies([{"name": "notifier_token", "value": subscriber_token("dora"), "url": service.url}])
    django.show({"url": ""})
    django.wait("hello")
    with service.client() as client:
        client.post("/v1/events", json={"to": ["user:dora"], "type": "order.paid", "data": 5})
        client.post("/v1/messages", json={"to": ["user:dora"], "subject": "Hi"})
    assert django.wait("order.paid") == 5
    django.wait("message")
    assert django.page.evaluate("notifier.markRead('all')") == {"unread": 0}


def test_the_token_is_renewed_before_it_ends_and_the_stream_goes_on(
    django: Django, service: Service, witness: Witness
) -> None:
    django.token_answers = [token_answer(subscriber_token("ann"), 3600)]
    django.page.clock.install()
    django.show({"url": service.url, "token": subscriber_token("ann", expires_in_s=12), "tokenUrl": "/token/"})
    django.wait("hello")
    django.page.clock.run_for(11_500)  # after nine tenths of its life, it is renewed
    wait_for(lambda: django.page.evaluate("1") and django.tokens_asked, what="the next token")
    assert not django.page.evaluate("seen.some(({ detail }) => detail?.reason === 'expired')")
    django.wait("state", "detail.reason === 'expired'")  # the service ends the stream with its token
    django.page.wait_for_function("seen.filter(({ name }) => name === 'hello').length === 2")
    with service.client() as client:
        client.post("/v1/messages", json={"to": ["user:ann"], "subject": "After the first token"})
    django.wait("message", "detail.subject === 'After the first token'")
    assert witness.faults == []  # a refused request would show on the console


def test_a_refused_token_is_replaced(django: Django, service: Service) -> None:
    django.token_answers = [token_answer(subscriber_token("ann"), 3600)]
    django.show({"url": service.url, "token": "stale", "tokenUrl": "/token/"})
    assert django.wait("hello")["v"] == 1
    assert django.tokens_asked == 1


def test_a_token_address_that_is_away_for_a_moment_is_asked_again(django: Django, service: Service) -> None:
    django.token_answers = [
        lambda route: route.fulfill(status=503, body="later"),
        token_answer(subscriber_token("ann"), 3600),
    ]
    django.show({"url": service.url, "tokenUrl": "/token/"})
    django.wait("hello")
    assert django.tokens_asked == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda route: route.fulfill(status=401, json={}),
        lambda route: route.fulfill(status=403, json={}),
        lambda route: route.fulfill(status=200, body="<h1>Log in</h1>", content_type="text/html"),
    ],
    ids=["401", "403", "a login page"],
)
def test_somebody_who_logged_out_is_left_alone(
    django: Django, service: Service, witness: Witness, answer: Callable[[Route], None]
) -> None:
    django.token_answers = [answer]
    django.show({"url": service.url, "tokenUrl": "/token/"})
    assert django.wait("state") == {"state": "offline", "reason": "unauthorized", "final": True}
    assert not [url for url in witness.requests if "/v1/" in url]


def test_a_page_without_a_config_does_nothing(django: Django, service: Service, witness: Witness) -> None:
    django.show(None)
    django.page.wait_for_load_state("networkidle")
    assert django.page.evaluate("window.notifier") is None
    assert not [url for url in witness.requests if "/v1/" in url]
    assert witness.faults == []


def test_store_widgets_and_words_come_with_the_tag_under_a_policy_that_knows_only_the_nonce(
    context: BrowserContext, service: Service, witness: Witness
) -> None:
    config = {"url": "", "token": subscriber_token("eve"), "widgets": True, "texts": "/client/i18n/ru.js"}
    body = f"""<!doctype html><link rel="icon" href="data:,"><notifier-bell></notifier-bell>
<notifier-toasts></notifier-toasts><notifier-message level="success">Saved</notifier-message>
<script id="notifier-config" type="application/json">{json.dumps(config)}</script>
<script type="module" src="/client/django.js" nonce="abc"></script>"""
    policy = "default-src 'none'; script-src 'nonce-abc'; connect-src 'self'; img-src data:; base-uri 'none';"
    headers = {"Content-Security-Policy": f"{policy} require-trusted-types-for 'script'; trusted-types 'none'"}
    context.route(
        f"{service.url}/strict", lambda route: route.fulfill(body=body, content_type="text/html", headers=headers)
    )
    page = context.new_page()
    witness.watch(page)
    page.goto(f"{service.url}/strict")
    expect(page.locator("[part=toast]", has_text="Saved")).to_be_visible()
    expect(page.get_by_role("button", name="Сообщения. 0 непрочитанных сообщений")).to_be_visible()
    with service.client() as client:
        client.post("/v1/messages", json={"to": ["user:eve"], "subject": "Hi"}).raise_for_status()
    expect(page.get_by_role("button", name="Сообщения. 1 непрочитанное сообщение")).to_be_visible()
    assert page.evaluate("notifier.store.state.unread") == 1
    assert witness.faults == []


def test_live_parts_of_a_project_without_a_url_for_grants_are_live_and_their_views_give_the_next_grants(
    django: Django, service: Service, witness: Witness
) -> None:
    long, short = (topic_grant(JWT_SECRET, "fay", [f"order:{n}"], ttl_s=s) for n, s in ((1, 300), (2, 5)))
    parts = "".join(
        f'<p id="part{n}" data-live-topic="order:{n}" data-live-grant="{grant}" data-live-cursor="-"></p>'
        for n, grant in ((1, long), (2, short))
    )
    collect = "document.addEventListener('live', ({ target, detail }) => seen.push({ name: target.id, detail }), true)"
    django.page.add_init_script(collect)
    django.show({"url": service.url, "token": subscriber_token("fay"), "grantsUrl": None}, parts)
    assert django.wait("part1")["type"] == "stale", "joined: the page has no cursor"
    with service.client() as client:
        client.post("/v1/events", json={"to": ["topic:order:1"], "type": "changed", "data": {"topic": "order:1"}})
    assert django.wait("part1", "detail.type === 'changed'")["topic"] == "order:1"
    assert django.wait("part2", "detail.isDue")["type"] == "stale"
    assert witness.faults == []
