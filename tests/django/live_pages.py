"""Live pages of the test project: a fragment by htmx, Turbo and `<notifier-live>`. Staff see another version of it."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin, register
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template import engines
from django.urls import path

from django_bridge import PresenceAdmin, changed, live_permission
from tests.credentials import REPOSITORY
from tests.django.sample.models import SimpleModel
from tests.pasted import titled

LOGIN = "/live/admin/login/"
NONCE = "bGl2ZQ"
ROW = """{% load notifier %}
<div id="htmx" {% live row %} hx-get="/live/{{ row.pk }}/row/" hx-trigger="live" hx-select="#htmx" hx-swap="outerHTML"
  hx-status:4xx="swap:none"><p>{% if user.is_staff %}staff: {% endif %}{{ row.title }}</p></div>
<turbo-frame id="turbo" {% if page %}{% live row %} src="/live/{{ row.pk }}/row/"{% endif %}>
  <p>{% if user.is_staff %}staff: {% endif %}{{ row.title }}</p></turbo-frame>
<notifier-live id="live" {% if page %}{% live row %} src="/live/{{ row.pk }}/row/#live"{% endif %}>
  <p>{% if user.is_staff %}staff: {% endif %}{{ row.title }}</p></notifier-live>
"""
PAGE = (
    """<!doctype html><html lang="en"><title>Live</title>
<script src="/live/{{ request.GET.htmx|default:"htmx" }}.js"></script><script src="/live/turbo.js"></script>
<main><h1>Live</h1>"""
    + ROW
    + """</main>{% notifier widgets=False %}</html>"""
)
STRICT = """<!doctype html><html lang="en"><title>Live</title>{% load notifier %}
<main><notifier-live id="live" {% live row %} src="#live">
  <h1>{% if user.is_staff %}staff: {% endif %}{{ row.title }}</h1>
  <label>Note <input name="note"></label> <label>Other <input name="other" value="{{ row.title }}"></label>
  <label>Kind <select name="kind"><option>a<option>b</select></label>
  <label>Free <input name="free" value="{{ row.title }}"></label>
  {% for size in "SML" %}<label><input type="radio" name="size" value="{{ size }}"> {{ size }}</label>{% endfor %}
  <div id="long" tabindex="0" class="long">{% for n in numbers %}<p>{{ row.title }} {{ n }}</p>{% endfor %}</div>
</notifier-live><notifier-live {% live row %} src="#title"><p id="title">{{ row.title }}</p></notifier-live></main>
<style nonce="bGl2ZQ">.long { block-size: 5rem; overflow: auto; }</style>
{% notifier widgets=False %}</html>"""
ROWS = """<!doctype html><html lang="en"><title>Rows</title>{% load notifier %}
<notifier-live id="live" {% live row %} src="#live"><h1>{{ row.title }}</h1>
  <input type="datetime-local" id="at" step="1" value="2026-11-30T10:0{% if names == "BC" %}0{% else %}1{% endif %}:00">
  <input type="range" id="range" max="{% if names == "BC" %}100{% else %}10{% endif %}">
  {% for name in names %}<p><input type="checkbox" name="sel" value="{{ name }}" aria-label="{{ row.title }}">
    <input type="radio" name="radio" value="{{ name }}"> <input name="note">
    <button>Pack</button> <button name="send" value="{{ name }}">Send</button></p>
  <p id="row-{{ name }}"><input name="own"> <button>Pack</button> <a href="#x">{{ row.title }}</a></p>{% endfor %}
</notifier-live>{% notifier widgets=False %}</html>"""
DRIVE = """<!doctype html><html lang="en"><head><title>{{ row.pk }}</title><script src="/live/turbo.js"></script></head>
<body>{% load notifier %}<notifier-bell></notifier-bell>
<nav>{% for each in rows %}<a href="/live/{{ each.pk }}/drive/">Row {{ forloop.counter }}</a> {% endfor %}</nav>
<notifier-live id="live" {% live row %} src="#live"><h1>{{ row.title }}</h1></notifier-live>
<turbo-frame id="turbo" {% live row %} src="/live/{{ row.pk }}/row/"><p>{{ row.title }}</p></turbo-frame>
{% presence row %}{% notifier %}</body></html>"""
PEOPLE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>Live</title>{% load notifier %}
<main><h1>Order</h1>{% presence row editing="#form" warning="{name}: save anyway?" avatars="/live/{id}/face/" %}
<notifier-live id="live" {% live row %} src="#live"><h2>{{ row.title }}</h2></notifier-live>
<form id="form"><label>Title <input name="title"></label> <button>Save</button></form></main>
{% notifier widgets=False %}</html>"""
ORDERS = f"""<!doctype html><html lang="en"><title>Orders</title>
<script src="/live/{{{{ request.GET.htmx|default:"htmx" }}}}.js"></script>
{titled("docs/live.md")["shop/orders.html"]}</html>"""
FILES = {
    "htmx": "htmx2/dist/htmx.min.js",
    "htmx4": "htmx.org/dist/htmx.min.js",
    "turbo": "@hotwired/turbo/dist/turbo.es2017-umd.js",
}
FACE = '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32"><circle cx="16" cy="16" r="16"/></svg>'


site = AdminSite(name="shared")


@register(SimpleModel, site=site)
class SimpleAdmin(PresenceAdmin, ModelAdmin):  # type: ignore[type-arg]
    warns_of_editors = True


@live_permission(SimpleModel)
def may_see(user: User, row: SimpleModel) -> bool:
    return user.is_active and not user.groups.filter(name="banned").exists()


def render(request: HttpRequest, template: str, pk: int, **more: Any) -> HttpResponse:
    row = get_object_or_404(SimpleModel, pk=pk)
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), LOGIN)
    if not may_see(request.user, row):
        raise PermissionDenied
    context: dict[str, Any] = {"row": row, "numbers": range(40), **more}
    return HttpResponse(engines["django"].from_string(template).render(context, request))


def page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, PAGE, pk, page=True)


def row(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, ROW, pk)


def strict(request: HttpRequest, pk: int) -> HttpResponse:
    return strictly(request, STRICT, pk)


def rows(request: HttpRequest, pk: int) -> HttpResponse:
    """Rows B and C, after a change A above them, at last B alone."""
    title = get_object_or_404(SimpleModel, pk=pk).title
    return render(request, ROWS, pk, names={"first": "BC", "last": "B"}.get(title, "ABC"))


def drive(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, DRIVE, pk, rows=SimpleModel.objects.order_by("pk"))


def people(request: HttpRequest, pk: int) -> HttpResponse:
    return strictly(request, PEOPLE, pk)


def strictly(request: HttpRequest, template: str, pk: int) -> HttpResponse:
    request.csp_nonce = NONCE  # type: ignore[attr-defined]
    answer = render(request, template, pk)
    answer["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'nonce-{NONCE}'; style-src 'nonce-{NONCE}'; connect-src *; "
        "img-src 'self'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return answer


@login_required(login_url=LOGIN)
def orders(request: HttpRequest) -> HttpResponse:
    """The page of docs/live.md."""
    context = {"orders": SimpleModel.objects.order_by("pk")}
    return HttpResponse(engines["django"].from_string(ORDERS).render(context, request))


def rename(request: HttpRequest, pk: int) -> HttpResponse:
    """Each `title` is a change of its own."""
    spread_s = request.GET.get("spread_s")
    for title in request.GET.getlist("title"):
        SimpleModel.objects.filter(pk=pk).update(title=title)
        changed(SimpleModel.objects.filter(pk=pk), spread_s=float(spread_s) if spread_s else None)
    return HttpResponse()


def face(request: HttpRequest, pk: int) -> HttpResponse:
    """The picture of a user: Bob has one."""
    get_object_or_404(User, pk=pk, first_name="Bob")
    return HttpResponse(FACE, content_type="image/svg+xml")


def script(request: HttpRequest, name: str) -> FileResponse:
    return FileResponse((REPOSITORY / "node_modules" / FILES[name]).open("rb"), content_type="text/javascript")


urlpatterns = [
    path("orders/", orders, name="orders"),
    path("<int:pk>/", page),
    path("<int:pk>/row/", row),
    path("<int:pk>/strict/", strict),
    path("<int:pk>/rows/", rows),
    path("<int:pk>/drive/", drive),
    path("<int:pk>/people/", people),
    path("<int:pk>/rename/", rename),
    path("<int:pk>/face/", face),
    path("admin/", site.urls),
    path("<slug:name>.js", script),
]
