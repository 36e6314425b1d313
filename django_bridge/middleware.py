"""Middleware: jobs that a request adds to a queue belong to its user; pages know how new their data are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from django_bridge.conf import settings
from django_bridge.cursors import ATTRIBUTE, UNKNOWN, cursor_of
from django_bridge.queues.owner import during
from django_bridge.recipients import user_id

_View = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def current_user(get_response: _View) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Reported jobs without a user among their arguments get that of the request which adds them to the queue.

    Below `AuthenticationMiddleware`.
    """
    if iscoroutinefunction(get_response):

        async def respond_later(request: HttpRequest) -> HttpResponseBase:
            with during(request):
                response: HttpResponseBase = await get_response(request)
            return response

        return respond_later

    def respond(request: HttpRequest) -> HttpResponseBase:
        with during(request):
            response: HttpResponseBase = get_response(request)
        return response

    return respond


@sync_and_async_middleware
def live(get_response: _View) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Read the service's cursor before a view reads its data: what changes while a page or a part of it is rendered and
    opened is fetched again, and nothing else. It costs each request with a session one call to the service, apart from
    forms that browsers send without a script. A request waits for it for a tenth of `TIMEOUT_S` at most, and while the
    service is away or slow mostly not at all: each live part of the page is then fetched once more.

    Below `AuthenticationMiddleware`.
    """
    if iscoroutinefunction(get_response):

        async def respond_later(request: HttpRequest) -> HttpResponseBase:
            await sync_to_async(_read_cursor)(request)
            response: HttpResponseBase = await get_response(request)
            return response

        return respond_later

    def respond(request: HttpRequest) -> HttpResponseBase:
        _read_cursor(request)
        response: HttpResponseBase = get_response(request)
        return response

    return respond


def _read_cursor(request: HttpRequest) -> None:
    setattr(request, ATTRIBUTE, UNKNOWN)
    if django_settings.SESSION_COOKIE_NAME not in request.COOKIES or not _may_answer_a_part(request):
        return
    # The user is read from the session only where its shard matters.
    user: Any = getattr(request, "user", None) if settings().shards > 1 else None
    is_known = user is not None and user.is_authenticated
    setattr(request, ATTRIBUTE, cursor_of(user_id(user) if is_known else UNKNOWN))


def _may_answer_a_part(request: HttpRequest) -> bool:
    """Whether the answer may be a page, or a part that replaces a live one. A new document that answers a form hears no
    topic yet, so without a cursor its parts are fetched once more; most such answers are redirects."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return request.method == "GET"
    return request.headers.get("Sec-Fetch-Mode") != "navigate"
