"""A user's page with live parts, in a real browser."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.async_api import Browser, Page

from tests.axe import FINDINGS, axe
from tests.django.sample.models import SimpleModel
from tests.django.site import Site

TEXTS = """() => {
    const look = () => texts.push(...[...document.querySelectorAll("main p")].map((p) => p.textContent));
    window.texts = [];
    look();
    new MutationObserver(look).observe(document.querySelector("main"), { subtree: true, childList: true });
}"""
"""Collects what the fragments of a page show from now on."""
SHORTEN = """new MutationObserver(() => {
    for (const element of document.querySelectorAll("[data-live-grant]:not([data-live-grant='GRANT'])"))
        element.setAttribute("data-live-grant", "GRANT");
}).observe(document, { subtree: true, childList: true })"""
"""Each element has this grant, before the page's modules run."""


def cookie(user: User, site: Site) -> Any:
    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": site.url}


class Viewer:
    """A user's page. Every error on its console fails the test."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.joined = self.refused = 0
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfinished", self._finished)
        page.on("response", self._answered)

    def _finished(self, request: Any) -> None:
        self.joined += request.url.endswith("/v1/stream/topics")

    def _answered(self, response: Any) -> None:
        self.refused += response.status == 403

    async def is_joined(self) -> None:
        while not self.joined:
            await self.page.wait_for_event("requestfinished")


@contextlib.asynccontextmanager
async def viewing(started: Browser, url: str, session: Any) -> AsyncIterator[Viewer]:
    context = await started.new_context()
    await context.add_cookies([session])
    viewer = Viewer(await context.new_page())
    await viewer.page.goto(url)
    await viewer.is_joined()
    yield viewer
    await context.close()
    assert viewer.errors == []


async def audit(page: Page, selector: str | None = None) -> None:
    await page.evaluate(axe())
    assert await page.evaluate(FINDINGS, selector) == []


def rename(site: Site, row: SimpleModel, *titles: str, **more: Any) -> None:
    params = {"title": titles, **more}
    httpx.get(f"{site.url}/live/{row.pk}/rename/", params=params, timeout=30).raise_for_status()


def barrier(site: Site, user: User) -> None:
    """What the user's stream hears after everything before."""
    with site.service.client() as publisher:
        event = {"to": [f"user:{user.pk}"], "type": "barrier"}
        publisher.post("/v1/events", json=event).raise_for_status()
