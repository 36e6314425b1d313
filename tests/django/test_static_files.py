"""The client behind storages that name files by their content: a page finds every module, in its own version."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Route, expect

from tests.django.examples import run
from tests.django.fresh_process import last_json
from tests.django.site import Chromium, in_chromium

pytestmark = pytest.mark.slow

HASHED = re.compile(r"\.[0-9a-f]{12}\.(js|svg)$")


def storage(name: str) -> dict[str, Any]:
    return {"STORAGES": {"staticfiles": {"BACKEND": name}}}


MANIFEST = storage("django.contrib.staticfiles.storage.ManifestStaticFilesStorage")
COMPRESSED_MANIFEST = storage("whitenoise.storage.CompressedManifestStaticFilesStorage")
AGGREGATING = storage("tests.django.aggregating_storage.AggregatingStorage")
ONLY_HASHED = {**COMPRESSED_MANIFEST, "WHITENOISE_KEEP_ONLY_HASHED_FILES": True}
COMPRESSED = storage("whitenoise.storage.CompressedStaticFilesStorage")

INBOX = {
    "messages": [
        {
            "id": "m1",
            "from": None,
            "to": "user:1",
            "subject": "Paid",
            "text": "",
            "level": "info",
            "url": None,
            "icon": "cart",
            "data": {},
            "sent_at": "2026-01-01T00:00:00Z",
            "expires_at": None,
            "read": False,
        }
    ],
    "more": False,
    "unread": 1,
    "cursor": "e-1",
}


def walked(folder: Path, settings: dict[str, Any]) -> Any:
    """The output of tests/django/static_walk.py."""
    return last_json(folder, "-m", "tests.django.static_walk", json.dumps(settings))


def assert_hashed(result: Any) -> None:
    assert set(result["answers"].values()) == {200}
    assert len(result["answers"]) > 20
    assert [url for url in result["answers"] if not HASHED.search(url)] == []
    assert result["maps"] == 1
    assert result["page"].index("importmap") < result["page"].index('type="module"')


@pytest.mark.parametrize(
    "settings",
    [
        MANIFEST,
        AGGREGATING,
        COMPRESSED_MANIFEST,
        pytest.param(ONLY_HASHED, marks=pytest.mark.full),  # in `make test`, with a browser
        {**COMPRESSED_MANIFEST, "STATIC_URL": "https://cdn.example.org/static/"},
    ],
    ids=["Django", "Django, imports rewritten", "WhiteNoise", "WhiteNoise, only hashed files", "behind a CDN"],
)
def test_every_module_and_icon_is_fetched_in_the_version_of_its_page(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert_hashed(walked(tmp_path, settings))


@pytest.mark.parametrize(
    "settings",
    [COMPRESSED, {"WHITENOISE_USE_FINDERS": True, "WHITENOISE_AUTOREFRESH": True}],
    ids=["WhiteNoise without a manifest", "WhiteNoise with finders"],
)
def test_without_names_by_content_there_is_no_map(tmp_path: Path, settings: dict[str, Any]) -> None:
    result = walked(tmp_path, settings)
    assert set(result["answers"].values()) == {200}
    assert (len(result["answers"]) > 20, result["maps"]) == (True, 0)


@pytest.mark.programs
@in_chromium
async def test_a_browser_loads_widgets_and_icons_where_only_hashed_files_are_kept_under_the_policy_of_the_docs(
    tmp_path: Path, chromium: Chromium
) -> None:
    directives = run("SECURE_CSP = {")["SECURE_CSP"]
    policy = "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())
    policy = policy.replace("<CSP_NONCE_SENTINEL>", "'nonce-abc'")
    result = await asyncio.to_thread(walked, tmp_path, ONLY_HASHED)
    assert_hashed(result)
    html = result["page"] + "<notifier-bell></notifier-bell>"
    missing: list[str] = []

    async def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        file = tmp_path / "collected" / path.removeprefix("/static/")
        if path == "/":
            await route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy})
        elif file.is_file():
            await route.fulfill(path=file, content_type=mimetypes.guess_type(path)[0])
        else:
            missing.append(path)
            await route.fulfill(status=404)

    async def inbox(route: Route) -> None:
        await route.fulfill(json=INBOX, headers={"Access-Control-Allow-Origin": "https://example.org"})

    async with chromium.browser() as started:
        page = await started.new_page()
        await page.route("https://example.org/**", answer)
        await page.route("https://notifier.example.org/**", lambda route: route.abort())
        await page.route("https://notifier.example.org/v1/inbox?*", inbox)
        await page.goto("https://example.org/")
        await page.get_by_role("button", name="1 unread message").click()
        icon = page.locator("notifier-bell li img")
        await expect(icon).to_have_attribute("src", re.compile(r"/static/notifier/icons/cart\.[0-9a-f]{12}\.svg$"))
        await expect(icon).to_have_js_property("complete", True)
        assert await icon.evaluate("icon => icon.naturalWidth") > 0
    assert missing in ([], ["/favicon.ico"])
