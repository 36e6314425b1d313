"""The template tags and the context processor: widgets, languages, messages of django.contrib.messages."""

from __future__ import annotations

import json
import re
from typing import Any

import django
import pytest
from csp.constants import NONCE, SELF
from csp.middleware import CSPMiddleware
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages.storage.cookie import CookieStorage
from django.http import HttpResponse
from django.template import Context, Template
from django.test import RequestFactory, override_settings
from django.utils import translation
from django.utils.functional import SimpleLazyObject, empty
from django.utils.safestring import mark_safe

from django_bridge.context_processors import notifier


def request_of(user: object, **attributes: Any) -> Any:
    request: Any = RequestFactory().get("/")
    request.user = user
    request._messages = CookieStorage(request)
    for name, value in attributes.items():
        setattr(request, name, value)
    return request


def rendered(tag: str, request: Any) -> str:
    return Template("{% load notifier %}{% " + tag + " %}").render(Context({"request": request}))


def config(tag: str, user: User) -> Any:
    match = re.search(
        r'<script id="notifier-config" type="application/json">(.*?)</script>', rendered(tag, request_of(user))
    )
    assert match
    return json.loads(match.group(1))


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("ru", "/static/notifier/i18n/ru.js"),
        ("ru-by", "/static/notifier/i18n/ru.js"),
        ("pt-br", "/static/notifier/i18n/pt-br.js"),
        ("pt", "/static/notifier/i18n/pt-br.js"),
        ("zh-cn", "/static/notifier/i18n/zh-hans.js"),
        ("zh-hant", None),
        ("he", "/static/notifier/i18n/he.js"),
        ("en-gb", None),
        ("xx", None),
    ],
)
def test_the_widgets_have_the_active_language(user: User, language: str, texts: str | None) -> None:
    with translation.override(language):
        configuration = config("notifier", user)
    assert (configuration["texts"], configuration["widgets"]) == (texts, True)


def test_a_page_can_omit_widgets_and_set_its_own_texts(user: User) -> None:
    configuration = config("notifier widgets=False texts='shop/uk.js'", user)
    assert (configuration["texts"], configuration["widgets"]) == ("/static/shop/uk.js", False)


def test_pending_messages_become_elements_with_a_level_and_are_consumed() -> None:
    request = request_of(AnonymousUser(), csp_nonce="abc")
    messages.success(request, "Saved")
    messages.error(request, "<b>No</b>")
    messages.add_message(request, 33, mark_safe("Almost <i>full</i>"))
    page = rendered("notifier_messages", request)
    assert '<notifier-message level="success">Saved</notifier-message>' in page
    assert '<notifier-message level="error">&lt;b&gt;No&lt;/b&gt;</notifier-message>' in page
    assert '<notifier-message level="warning">Almost <i>full</i></notifier-message>' in page
    assert '<script type="module" src="/static/notifier/widgets/message.js" nonce="abc"></script>' in page
    assert request._messages.used


def test_the_scripts_have_the_nonce_of_the_policy_that_the_response_has(user: User) -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(rendered("notifier", request_of(user, csp_nonce=request.csp_nonce)))

    with override_settings(CONTENT_SECURITY_POLICY={"DIRECTIVES": {"script-src": [SELF, NONCE]}}):
        response = CSPMiddleware(view)(RequestFactory().get("/"))
    (nonce,) = re.findall("'nonce-([^']+)'", response["Content-Security-Policy"])
    assert f' nonce="{nonce}"></script>' in response.text


class LazyNonce(SimpleLazyObject):
    """As that of Django 6: true once its text was read."""

    def __bool__(self) -> bool:
        return self._wrapped is not empty


TAGS = ("notifier", "notifier_messages")


@pytest.mark.parametrize("tag", TAGS)
def test_the_scripts_have_the_nonce_of_the_context(user: User, tag: str) -> None:
    request = request_of(user)
    messages.success(request, "Saved")
    page = Template("{% load notifier %}{% " + tag + " %}")
    text = page.render(Context({"request": request, "csp_nonce": LazyNonce(lambda: "abc")}))
    assert ' nonce="abc"></script>' in text


@pytest.mark.parametrize("absent", [False, None, 0, ""])
def test_a_nonce_that_is_false_is_none(user: User, absent: object) -> None:
    request = request_of(user, csp_nonce=absent)
    page = Template("{% load notifier %}{% notifier %}")
    text = page.render(Context({"request": request, "csp_nonce": absent}))
    assert "<script" in text
    assert "nonce=" not in text
    assert ' nonce="abc"></script>' in page.render(Context({"request": request, "csp_nonce": "abc"}))


if django.VERSION >= (6,):

    @pytest.mark.parametrize("tag", TAGS)
    @pytest.mark.parametrize("processed", [True, False])
    def test_the_scripts_have_the_nonce_of_django_6_with_and_without_its_context_processor(
        user: User, tag: str, processed: bool
    ) -> None:
        from django.middleware.csp import ContentSecurityPolicyMiddleware
        from django.template.context_processors import csp

        def view(request: Any) -> HttpResponse:
            request.user, request._messages = user, CookieStorage(request)
            messages.success(request, "Saved")
            page = Template("{% load notifier %}{% " + tag + " %}")
            return HttpResponse(page.render(Context({"request": request, **(csp(request) if processed else {})})))

        with override_settings(SECURE_CSP={"script-src": ["<CSP_NONCE_SENTINEL>"]}):
            response: Any = ContentSecurityPolicyMiddleware(view)(RequestFactory().get("/"))
        (nonce,) = re.findall("'nonce-([^']+)'", response["Content-Security-Policy"])
        assert f' nonce="{nonce}"></script>' in response.text


def test_without_messages_or_their_app_nothing_is_rendered() -> None:
    assert rendered("notifier_messages", request_of(AnonymousUser())) == ""
    assert Template("{% load notifier %}{% notifier_messages %}").render(Context()) == ""


def test_templates_have_the_configuration_in_their_context(user: User) -> None:
    show = Template("{% if notifier %}{{ notifier.tokenUrl }}{% else %}none{% endif %}")
    assert show.render(Context(notifier(request_of(user)))) == "/notifier/token/"
    assert show.render(Context(notifier(request_of(AnonymousUser())))) == "none"
