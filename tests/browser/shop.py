"""A page with all widgets, of one user."""

from __future__ import annotations

import uuid
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page

from tests.support import ADMIN_KEY, Service, subscriber_token

PAGE = """<!doctype html><html lang="{lang}"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Shop</title><link rel="icon" href="/client/demo/icon.svg">
<notifier-bell></notifier-bell><notifier-inbox></notifier-inbox><notifier-tasks></notifier-tasks>
<notifier-progress task="{task}"></notifier-progress><notifier-toasts></notifier-toasts>
<script type="module">
  import {{ connect }} from "/client/notifier.js";
  import {{ createStore }} from "/client/store.js";
  import {{ showWidgets }} from "/client/widgets.js";
  import texts from "/client/i18n/{lang}.js";
  window.states = [];
  window.notifier = connect("/", {{ {renew}token: "{token}" }});
  notifier.on("connectionState", ({{ state }}) => states.at(-1) === state || states.push(state));
  window.store = createStore(notifier);
  showWidgets(store, {{ texts }});
</script>"""
WIDGETS = ("notifier-inbox", "notifier-tasks", "notifier-progress")


class Shop:
    """A page with all widgets, and a task."""

    def __init__(self, context: BrowserContext, service: Service, url: str = "") -> None:
        self.context = context
        self.service = service
        self.url = url or service.url
        self.user = f"c{uuid.uuid4().hex[:8]}"
        self.task = self.begin("Import")

    def call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        with self.service.client() as client:
            answer = client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()

    def begin(self, name: str, to: str = "") -> str:
        body = {"to": [to or f"user:{self.user}"], "name": name, "total": 10}
        return str(self.call("POST", "/v1/tasks", body)["id"])

    def publish(self, subject: str) -> None:
        self.call("POST", "/v1/messages", {"to": [f"user:{self.user}"], "subject": subject})

    def disconnect(self) -> None:
        with self.service.client(ADMIN_KEY) as client:
            client.post(f"/v1/users/{self.user}/disconnect").raise_for_status()

    def open(self, *, lang: str = "en", until: str = "open", renews: bool = True, **claims: Any) -> Page:
        """The page, once its connection is in this state; any with ""."""
        page = self.context.new_page()
        token = subscriber_token(self.user, **claims)
        renew = f'getToken: () => "{token}", ' if renews else ""
        body = PAGE.format(lang=lang, task=self.task, token=token, renew=renew)
        page.route("**/shop", lambda route: route.fulfill(body=body, content_type="text/html"))
        page.goto(f"{self.url}/shop")
        if until:
            reached(page, until)
        return page


def reached(page: Page, state: str, timeout_s: float = 30) -> None:
    """Waits for a state of the connection, in the store."""
    page.wait_for_function(
        "wanted => window.store?.state.connectionState?.state === wanted", arg=state, timeout=1000 * timeout_s
    )


def notes(page: Page) -> list[Locator]:
    return [page.locator(f"{name} [part=connection]") for name in WIDGETS]
