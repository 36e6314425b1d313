"""`{% load notifier %}{% notifier %}`: gives a page its token and the browser client."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString, mark_safe

from django_bridge.conf import settings
from django_bridge.tokens import subscriber_token

register = template.Library()

SCRIPT = "notifier/django.js"


@register.simple_tag(takes_context=True)
def notifier(context: Context) -> SafeString:
    """The configuration as inert JSON, and the script that reads it; nothing for anonymous users.

    The page holds a token then: shared caches must not keep it. With a CSP, the script carries the request's nonce.
    """
    user = _user(context)
    if user is None or not user.is_authenticated:
        return mark_safe("")
    config = {
        "url": settings().public_url,
        "token": subscriber_token(user),
        "tokenUrl": _token_url(),
    }
    # json_script escapes <, > and &: no value can end the element.
    return format_html(
        '{}\n<script type="module" src="{}"{}></script>',
        json_script(config, "notifier-config"),
        static(SCRIPT),
        _nonce(context),
    )


def _user(context: Context) -> Any:
    request = context.get("request")
    return getattr(request, "user", None) or context.get("user")


def _token_url() -> str | None:
    """Where the page gets its next token; None where the project does not include `django_bridge.urls`."""
    try:
        return reverse("django_bridge:token")
    except NoReverseMatch:
        return None


def _nonce(context: Context) -> SafeString:
    """The nonce of django-csp (on the request) or of Django 6 (in the context)."""
    nonce = getattr(context.get("request"), "csp_nonce", None) or context.get("csp_nonce")
    return format_html(' nonce="{}"', nonce) if nonce else SafeString("")
