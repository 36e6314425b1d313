"""Runs the examples of docs/live.md."""

from __future__ import annotations

import difflib
import re
import sys
from types import ModuleType
from typing import Any

import django
import pytest
from django.contrib import admin
from django.contrib.admin import register as admin_register
from django.contrib.auth.models import AnonymousUser, User
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.http import Http404
from django.shortcuts import render
from django.template import engines
from django.test import RequestFactory, override_settings
from django.urls import path, reverse

from django_bridge import PresenceAdmin, grants
from django_bridge.testing import outbox
from tests.django.live_models import Order
from tests.django.sample.models import SimpleModel
from tests.django.urls import urlpatterns
from tests.pasted import titled
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "live.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
BY_TITLE = titled("docs/live.md")


def example(start: str) -> str:
    """The example of Python code with this text."""
    (code,) = [code for language, title, code in BLOCKS if language == "python" and not title and start in code]
    return code


def test_a_list_becomes_live_by_six_changed_lines_at_most() -> None:
    before = BY_TITLE["shop/orders.html (before)"].splitlines()
    changes = [line for line in difflib.ndiff(before, BY_TITLE["shop/orders.html"].splitlines()) if line[0] == "+"]
    others = [line for title in ("settings.py", "shop/models.py") for line in BY_TITLE[title].splitlines() if line]
    assert len(changes) + len(others) <= 6


def test_the_live_list_has_what_a_page_needs(user: User, rows: int) -> None:
    request = RequestFactory().get("/")
    request.user = user
    template = BY_TITLE["shop/orders.html"].replace("{% url 'orders' %}", reverse("django_bridge:history"))
    html = engines["django"].from_string(template).render({"orders": SimpleModel.objects.all()}, request)
    names = {f"sample.simplemodel:{row.pk}" for row in SimpleModel.objects.all()}
    (shown,) = re.findall(r'data-live-topic="([^"]*)"', html)
    assert set(shown.split()) == names
    assert (html.count("data-live-grant="), html.count("notifier-config")) == (1, 1)
    assert '"grantsUrl": "/notifier/grants"' in html


@pytest.fixture
def _signals() -> Any:
    signals = (post_save, post_delete, m2m_changed)
    receivers = [list(signal.receivers) for signal in signals]
    yield
    for signal, before in zip(signals, receivers, strict=True):
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()


@pytest.mark.usefixtures("_signals")
def test_the_model_is_live() -> None:
    exec(BY_TITLE["shop/models.py"], {"Order": SimpleModel})
    row = SimpleModel.objects.create(title="first")
    assert [event["to"] for event in outbox.events] == [[f"topic:sample.simplemodel:{row.pk}"]]


def test_the_middleware_has_this_name() -> None:
    names: dict[str, Any] = {"MIDDLEWARE": []}
    exec(BY_TITLE["settings.py"], names)
    (path,) = names["MIDDLEWARE"]
    engines["django"]  # Django is set up
    from django.utils.module_loading import import_string

    assert callable(import_string(path))


def test_what_tells_a_page() -> None:
    row, other = (SimpleModel.objects.create(title=title) for title in ("first", "spare part"))
    exec(example("changed(order)"), {"order": row, "Order": SimpleModel})
    assert [(event["type"], event["data"]) for event in outbox.events] == [
        ("changed", {"topic": f"sample.simplemodel:{row.pk}"}),
        ("changed", {"topic": f"sample.simplemodel:{other.pk}", "spread_s": 2}),
        ("order.paid", {"topic": f"order:{row.pk}", "sum": 12}),
    ]


def test_who_else_is_here(user: User) -> None:
    row = SimpleModel.objects.create(title="first")
    request = RequestFactory().get("/")
    request.user = user
    html = engines["django"].from_string(BY_TITLE["shop/order.html"]).render({"order": row}, request)
    assert html.count('<notifier-presence topic="sample.simplemodel:') == 1
    site = admin.AdminSite()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admin, "register", lambda model: admin_register(model, site=site))
        exec(example("PresenceAdmin"), {"Order": SimpleModel})
    model_admin = site._registry[SimpleModel]
    assert isinstance(model_admin, PresenceAdmin)
    assert model_admin.warns_of_editors


def test_who_may_see_it(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "_permissions", {})
    row = SimpleModel.objects.create(title="first")
    names: dict[str, Any] = {"Order": SimpleModel}
    exec(example("@live_permission"), names)
    old = grants.grant(user, [f"sample.simplemodel:{row.pk}"])
    assert grants.renewed(user, [old]).denied == [f"sample.simplemodel:{row.pk}"]
    user.is_superuser = True
    assert len(grants.renewed(user, [old]).grants) == 1
    exec(example("LIVE ="), names)
    assert names["LIVE"] == {"shop.order": "shop.permissions.may_see"}


if django.VERSION >= (6,):

    def test_a_row_is_a_partial_of_its_list(user: User, other_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
        monkeypatch.setitem(sys.modules, "shop.models", ModuleType("shop.models"))
        monkeypatch.setattr(sys.modules["shop.models"], "Order", Order, raising=False)
        names: dict[str, Any] = {"__name__": __name__}
        exec(BY_TITLE["shop/views.py (with partials)"], names)
        template = BY_TITLE["shop/orders.html (with partials)"]
        loader = ("django.template.loaders.locmem.Loader", {"shop/orders.html": template})
        backend = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": [loader]}}
        orders = [Order._default_manager.create(title=f"order {n}", customer=user) for n in range(3)]
        request = RequestFactory().get("/")
        request.user = user
        urls = type("urls", (), {"urlpatterns": [*urlpatterns, path("<int:pk>/", names["order"], name="order")]})
        with override_settings(TEMPLATES=[backend], ROOT_URLCONF=urls):
            page = render(request, "shop/orders.html", {"orders": orders}).content.decode()
            row = names["order"](request, orders[0].pk).content.decode().strip()
            request.user = other_user
            with pytest.raises(Http404):
                names["order"](request, orders[0].pk)
            request.user = AnonymousUser()
            assert names["order"](request, orders[0].pk).status_code == 302
        assert page.count("data-live-grant=") == 1
        shown = [f"sample.order:{order.pk}" for order in orders]
        assert re.findall(r'data-live-topic="([^"]*)"', page) == shown
        assert row.startswith(f'<li id="order-{orders[0].pk}" data-live-topic="{shown[0]}" data-live-grant="')
        assert f'hx-get="/{orders[0].pk}/" hx-trigger="live"' in row
        assert (row.count("<li"), row.endswith(f">{orders[0].title}</li>")) == (1, True)
