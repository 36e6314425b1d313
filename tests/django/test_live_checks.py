"""`manage.py check` of live pages: a URL that renews their grants, and their middleware."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.conf import settings
from django.db.models.signals import class_prepared
from django.test import override_settings
from django.urls import clear_url_caches, include, path

from django_bridge import grants, live_signals, page, progress_page
from tests.django.checking import AUTHENTICATION, GOOD_HTTP, SESSION, checked, no_live_use


def test_a_project_without_the_urls_gets_a_warning() -> None:
    with override_settings(ROOT_URLCONF="tests.django.sample.urls"):
        assert "notifier.W003" in checked(GOOD_HTTP)
        assert "notifier.W003" not in checked({key: GOOD_HTTP[key] for key in ("TRANSPORT", "URL", "API_KEY")})


class UrlsOfAProgressPage:
    """Of a project as README.md begins: its only URL renews tokens, but no grants."""

    urlpatterns: ClassVar = [path("report/", progress_page(lambda request: None, "Report"))]


@pytest.mark.parametrize("use", ["", "model", "permission", "admin", "setting", "middleware", "template", "included"])
def test_live_pages_without_a_url_that_renews_their_grants_are_a_warning(
    use: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_live_use(monkeypatch)
    monkeypatch.setattr(page, "TOKEN_VIEWS", [])
    value: dict[str, Any] = GOOD_HTTP
    options: dict[str, Any] = {"ROOT_URLCONF": UrlsOfAProgressPage}
    (tmp_path / "another.html").write_text("{% load another_library %}<p {% live row %}>")
    (tmp_path / "connected.html").write_text("{% load notifier %}{{ live }} {% notifier %}")
    options["TEMPLATES"] = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    if use == "model":
        class_prepared.connect(live_signals._connect, dispatch_uid=f"{live_signals._OWN}sample.Row")
    elif use in ("permission", "admin"):
        kind = "order" if use == "permission" else "django_bridge.admin"
        monkeypatch.setattr(grants, "_permissions", {kind: lambda user, order: True})
    elif use == "setting":
        value = {**GOOD_HTTP, "LIVE": {"order": "tests.django.test_live_checks.allow"}}
    elif use == "middleware":
        options["MIDDLEWARE"] = [SESSION, AUTHENTICATION, "django_bridge.middleware.live"]
    elif use == "template":
        (tmp_path / "order.html").write_text("{% load i18n notifier %}<h1>{% presence order %}</h1>")
    elif use == "included":
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "row.txt").write_text("{%load notifier%}\n<p {%live row%}>")
    urls = UrlsOfAProgressPage.urlpatterns
    with override_settings(**options):
        assert "cannot renew its token" in checked(value)
        page.TOKEN_VIEWS.append(urls[0].callback)
        output = checked(value)
        assert ("notifier.W003" in output) is bool(use)
        assert ("cannot renew its grants" in output) is bool(use)
        assert "notifier.W003" not in checked({key: part for key, part in value.items() if key != "JWT_SECRET"})
        monkeypatch.setattr(UrlsOfAProgressPage, "urlpatterns", [path("n/", include("django_bridge.urls"))])
        clear_url_caches()
        assert "notifier.W003" not in checked(value)
    clear_url_caches()


@pytest.mark.parametrize("use", ["model", "permission", "setting"])
def test_live_pages_without_their_middleware_are_a_warning(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_live_use(monkeypatch)
    value = GOOD_HTTP
    assert "notifier.W007" not in checked(value)
    monkeypatch.setattr(grants, "_permissions", {"django_bridge.admin": lambda user, key: True})
    assert "notifier.W007" not in checked(value), "PresenceAdmin alone"
    if use == "model":
        own = f"{live_signals._OWN}sample.Row"
        class_prepared.connect(live_signals._connect, dispatch_uid=own)
    elif use == "permission":
        monkeypatch.setattr(grants, "_permissions", {"order": lambda user, order: True})
    else:
        value = {**GOOD_HTTP, "LIVE": {"order": "tests.django.test_live_checks.allow"}}
    output = checked(value)
    assert "notifier.W007" in output
    assert "each live part is fetched once more after the page has loaded" in output
    assert "notifier.W007" not in checked({key: part for key, part in value.items() if key != "JWT_SECRET"})
    with override_settings(MIDDLEWARE=[SESSION, AUTHENTICATION, "django_bridge.middleware.live"]):
        assert "notifier.W007" not in checked(value)


def allow(user: object, order: object) -> bool:
    return True
