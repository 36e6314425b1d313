"""`{% load notifier %}`: `{% notifier %}` adds token, store and widgets to a page; `{% notifier_messages %}` shows the
messages of `django.contrib.messages` as toasts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from django import template
from django.db.models import Model
from django.template import Context
from django.templatetags.static import static
from django.utils.html import escape, format_html, format_html_join, json_script
from django.utils.safestring import SafeString, mark_safe

from django_bridge.cursors import ATTRIBUTE, UNKNOWN
from django_bridge.event_loop import outside_loop
from django_bridge.grants import grant, grants
from django_bridge.live import topic_of
from django_bridge.page import config_of
from django_bridge.recipients import NamedTopic
from django_bridge.static_files import hashed_files

try:
    from django.middleware.csp import get_nonce
except ImportError:  # before Django 6

    def get_nonce(request: Any) -> None:  # type: ignore[misc]  # Django's has types that are not there
        return None


log = logging.getLogger("django_bridge")
register = template.Library()

SCRIPT: Final = "notifier/django.js"
MESSAGE_SCRIPT: Final = "notifier/widgets/message.js"
_MAPPED: Final = "notifier_import_map"
_GRANTED: Final = "notifier_granted"
_ESCAPES: Final = {ord(">"): "\\u003E", ord("<"): "\\u003C", ord("&"): "\\u0026"}
LEVELS: Final = ((40, "error"), (30, "warning"), (25, "success"), (20, "info"))
"""The lower bounds of the levels of `django.contrib.messages`; custom levels in between have no name there."""


@register.simple_tag(takes_context=True)
def notifier(context: Context, *, widgets: bool = True, texts: str = "") -> SafeString:
    """The configuration as inert JSON, and the script that reads it; nothing for anonymous users.

    The page then contains a token: shared caches must not keep it. With a CSP, the script has the request's nonce.
    `widgets=False` only connects. `texts` is a static file with the widgets' texts in another language.
    """
    config = config_of(_user(context))
    if config is None:
        return mark_safe("")
    config["widgets"] = widgets
    if texts:
        config["texts"] = static(texts)
    return notifier_config(context, config)


@register.simple_tag(takes_context=True)
def notifier_config(context: Context, config: dict[str, Any]) -> SafeString:
    """As `notifier`, with a configuration that the view has made: the admin's board."""
    # json_script escapes <, > and &: no value can end the element.
    return format_html("{}\n{}", json_script(config, "notifier-config"), _script(context, SCRIPT))


@register.simple_tag(takes_context=True)
@outside_loop
def live(context: Context, shown: Any) -> SafeString:
    """The attributes of an element that is live: `<tr {% live order %}>`, `<ul {% live orders %}>`.

    `shown`: a model instance, the name of a topic, or an iterable of these (a queryset, a page). The first element of a
    page that shows a topic also has its grant and the page's cursor; elements inside a list that is live need none of
    their own.
    The view has checked that the user may see what it renders. Anonymous users get no grant.
    """
    names = _names(shown)
    topics = format_html('data-live-topic="{}"', " ".join(map(_quoted, names)))
    granted = _granted_once(context, names)
    return format_html("{} {}", topics, granted) if granted else topics


@register.simple_tag(takes_context=True)
@outside_loop
def live_rows(context: Context, shown: Iterable[Any]) -> SafeString:
    """The attributes of an element with rows that have `{% live row %}` each: `<tbody {% live_rows orders %}>`.

    It has one grant for all of them and is not live itself. Without it each row has a grant of its own.
    """
    return _granted_once(context, _names(shown))


@register.simple_tag(takes_context=True)
@outside_loop
def presence(context: Context, shown: Any, *, editing: str = "", warning: str = "", avatars: str = "") -> SafeString:
    """The element `<notifier-presence>`: who else has this model instance or topic open. Nothing for anonymous users.

    The view has checked that the user may see it, and who the others are. editing: a selector of the form in which an
    input is "editing". warning: a question before that form is submitted while others edit; `{name}` are these.
    avatars: the URL of pictures, where `{id}` is the user's id.
    """
    user = _user(context)
    if user is None or not user.is_authenticated:
        return mark_safe("")
    name = topic_of(shown).name
    values = {"topic": name, "editing": editing, "warning": warning, "avatars": avatars}
    attributes = format_html_join("", ' {}="{}"', [(key, escape(value)) for key, value in values.items() if value])
    granted = _granted(context, [grant(user, [name], presence=True)])
    return format_html(
        '<notifier-presence{} data-live-topic="{}" {}></notifier-presence>', attributes, _quoted(name), granted
    )


def _names(shown: Any) -> list[str]:
    is_single = isinstance(shown, str | Model | NamedTopic) or not isinstance(shown, Iterable)
    return [topic_of(each).name for each in ([shown] if is_single else shown)]


def _quoted(name: str) -> str:
    return quote(name, safe=":@/")


def _granted_once(context: Context, names: Sequence[str]) -> SafeString:
    """The attributes with a grant of those topics that no element of the page has a grant of."""
    user = _user(context)
    granted: set[str] = _page(context).setdefault(_GRANTED, set())
    missing = [name for name in dict.fromkeys(names) if name not in granted]
    if not missing or user is None or not user.is_authenticated:
        return SafeString("")
    granted.update(missing)
    request = _request(context)
    if request is not None and not hasattr(request, ATTRIBUTE):
        warn_of_missing_middleware()
    return _granted(context, grants(user, missing))


@cache
def warn_of_missing_middleware() -> None:
    """Once in a process. The check `notifier.W007` does not see every project: `changed` may be all that it calls."""
    log.warning(
        "A live part is rendered, but django_bridge.middleware.live is missing: each live part is fetched once more "
        "after the page has loaded. Add it to MIDDLEWARE, below AuthenticationMiddleware."
    )


def _granted(context: Context, tokens: Sequence[str]) -> SafeString:
    cursor = getattr(_request(context), ATTRIBUTE, UNKNOWN)
    return format_html('data-live-grant="{}" data-live-cursor="{}"', " ".join(tokens), cursor)


@register.simple_tag(takes_context=True)
@outside_loop
def notifier_messages(context: Context) -> SafeString:
    """The pending messages of `django.contrib.messages`, as elements that become toasts; without scripts, plain text.

    Needs neither a connection nor a login, and works in answers to htmx.
    """
    rows = [(_level(message.level), message.message) for message in _pending(context)]
    if not rows:
        return mark_safe("")
    elements = format_html_join("\n", '<notifier-message level="{}">{}</notifier-message>', rows)
    return format_html("{}\n{}", elements, _script(context, MESSAGE_SCRIPT))


@register.simple_tag(takes_context=True)
def notifier_module(context: Context, path: str) -> SafeString:
    """A script of the admin's pages: a static file, with the request's nonce."""
    return format_html('<script type="module" src="{}"{}></script>', static(path), _nonce(context))


def _pending(context: Context) -> Iterable[Any]:
    """Iterating consumes the messages: if the template did so before, none are left."""
    request = _request(context)
    messages: Iterable[Any] = getattr(request, "_messages", None) or context.get("messages") or ()
    return messages


def _level(number: int) -> str:
    return next((name for least, name in LEVELS if number >= least), "debug")


def _request(context: Context) -> Any:
    """None without one. A template that is included with `only` has it as an attribute of its context."""
    return context.get("request") or getattr(context, "request", None)


def _user(context: Context) -> Any:
    user = getattr(_request(context), "user", None)
    return context.get("user") if user is None else user


def _page(context: Context) -> dict[str, Any]:
    """What the tags of a page share. Django pushes another render context for each included template: the second entry
    is that of the outermost, the first outlives the rendering."""
    stack: Any = context.render_context
    page: dict[str, Any] = stack.dicts[:2][-1]
    return page


def _script(context: Context, path: str) -> SafeString:
    script = notifier_module(context, path)
    return format_html("{}\n{}", _import_map(context), script) if _import_map_is_due(context) else script


def _import_map_is_due(context: Context) -> bool:
    """True for the first tag of a page whose files have names by their content."""
    page = _page(context)
    if page.get(_MAPPED) or not hashed_files(static(SCRIPT)):
        return False
    page[_MAPPED] = True
    return True


def _import_map(context: Context) -> SafeString:
    """The map from the plain names of modules and icons to the names of their files; it must precede the scripts."""
    text = json.dumps({"imports": hashed_files(static(SCRIPT))}).translate(_ESCAPES)
    # The text is inert: its escapes are those of Django's json_script.
    return format_html('<script type="importmap"{}>{}</script>', _nonce(context), mark_safe(text))  # noqa: S308


def _nonce(context: Context) -> SafeString:
    """The nonce of django-csp (on the request) or of Django 6 (in the context, or on the request of a project without
    its context processor). Both make it when its text is read, and are false until then: the text precedes `place`."""
    request = _request(context)
    places = (getattr(request, "csp_nonce", None), context.get("csp_nonce"), get_nonce(request))
    nonce = next((text for place in places if (text := str(place)) and place), "")
    return format_html(' nonce="{}"', nonce) if nonce else SafeString("")
