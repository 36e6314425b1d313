"""The view that renews a page's token."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from django_bridge.conf import settings
from django_bridge.tokens import subscriber_token


@never_cache
@require_GET
def token(request: HttpRequest) -> JsonResponse:
    """`{"token": ..., "expires_in": ...}` for the user of the session; 401 for anonymous ones. Never cached."""
    if not request.user.is_authenticated:
        return JsonResponse({"detail": "log in first"}, status=401)
    return JsonResponse({"token": subscriber_token(request.user), "expires_in": settings().token_ttl_s})
