"""`PresenceAdmin`: the admin's change form shows who else has the object open there.

Its topic is the admin's own: people of the site's pages neither see nor are seen. Must not know: how presence is kept.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from django_bridge.grants import live_permission
from django_bridge.live import topic_of
from django_bridge.recipients import NamedTopic
from notifier.errors import InvalidInput

log = logging.getLogger("django_bridge")

if TYPE_CHECKING:
    _Any = admin.ModelAdmin[Any]
else:
    _Any = object

KIND: Final = "django_bridge.admin"
"""Of the topics: the name up to the first colon. No model has this label."""


class PresenceAdmin(_Any):
    """A mixin: the change form shows who else has the object open in the admin, and who edits it.

        class OrderAdmin(PresenceAdmin, admin.ModelAdmin): ...

    With `warns_of_editors` saving asks first, while others edit the object too.
    """

    warns_of_editors: bool = False

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        response = super().render_change_form(request, context, add, change, form_url, obj)
        topic = admin_topic(obj)
        if topic is None or not isinstance(response, TemplateResponse):
            return response
        response.context_data = {
            **(response.context_data or {}),
            "notifier_form": response.resolve_template(response.template_name),
            "notifier_topic": topic,
            "notifier_editing": f"#{self.opts.model_name}_form",
            "notifier_warns": self.warns_of_editors,
        }
        response.template_name = "django_bridge/presence_form.html"
        return response


def admin_topic(obj: Model | None) -> NamedTopic | None:
    """The topic of an object's change form; None without an object, and where no topic can have its key as a name."""
    if obj is None:
        return None
    try:
        concrete = obj._meta.concrete_model or type(obj)
        return topic_of(f"{KIND}:{concrete._meta.label_lower}:{obj.pk}")
    except InvalidInput:
        return None


@live_permission(KIND)
def may_open(user: Any, name: str) -> bool:
    """Whether a user may still open an object's change form, in some admin site with a `PresenceAdmin` for it."""
    label, _, key = name.partition(":")
    request = HttpRequest()
    request.user = user
    for site in all_sites:
        for model, model_admin in site._registry.items():
            concrete = model._meta.concrete_model or model
            if concrete._meta.label_lower != label or not isinstance(model_admin, PresenceAdmin):
                continue
            try:
                obj = model_admin.get_object(request, key) if site.has_permission(request) else None
                if obj is not None and model_admin.has_view_or_change_permission(request, obj):
                    return True
            except Exception:
                # The project's own code, with a request that has a user and nothing else.
                log.exception("%s cannot say who may open %s: not permitted", type(model_admin).__name__, name)
    return False
