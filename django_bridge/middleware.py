"""Middleware: jobs that a request adds to a queue belong to its user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from django_bridge.queues.owner import during

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
