"""Grants of pages: the tag `live`, the cursor of a page, and the renewal of grants."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.test import AsyncClient, Client, RequestFactory, override_settings

from django_bridge import changed, grants, live_permission, publisher
from django_bridge.conf_rules import problems
from django_bridge.cursors import UNKNOWN
from django_bridge.middleware import live
from django_bridge.templatetags import notifier as tags
from django_bridge.tokens import subscriber_token as own_token
from notifier.errors import InvalidInput
from tests.django.conftest import http_settings
from tests.django.listener import Listener
from tests.django.sample.models import SimpleModel
from tests.support import JWT_SECRET, Service, bearer, subscriber_token


def render(template: str, user: Any, **context: Any) -> str:
    request = RequestFactory().get("/")
    request.user = user
    request.notifier_cursor = "epoch-7"  # type: ignore[attr-defined]
    return str(Template("{% load notifier %}" + template).render(RequestContext(request, context)))


def granted(html: str) -> list[list[str]]:
    """The topics of each grant of a page."""
    tokens = " ".join(re.findall(r'data-live-grant="([^"]*)"', html)).split()
    return [claims(token)["topics"] for token in tokens]


def claims(token: str) -> Any:
    return jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="notifier:topics")


def test_an_element_has_its_topic_its_grant_and_the_pages_cursor(user: User) -> None:
    row = SimpleModel.objects.create(title="first")
    html = render("<p {% live row %}>", user, row=row)
    name = f"sample.simplemodel:{row.pk}"
    match = re.fullmatch(r'<p data-live-topic="(.*)" data-live-grant="(.*)" data-live-cursor="epoch-7">', html)
    assert match is not None
    assert match[1] == name
    content = claims(match[2])
    assert (content["sub"], content["topics"]) == (str(user.pk), [name])
    assert 290 < content["exp"] - time.time() <= 300


def test_a_list_has_one_grant_for_its_rows(user: User, rows: int) -> None:
    template = (
        "<ul {% live rows %}>{% for row in rows %}<li {% live row %}></li>{% endfor %}</ul><p {% live 'stock' %}>"
    )
    html = render(template, user, rows=SimpleModel.objects.order_by("pk"))
    names = [f"sample.simplemodel:{row.pk}" for row in SimpleModel.objects.order_by("pk")]
    assert granted(html) == [names, ["stock"]]
    assert re.findall(r'<li data-live-topic="([^"]*)"></li>', html) == names


def test_rows_of_included_templates_have_no_grants_beside_that_of_their_list(user: User, rows: int) -> None:
    row = Template("{% load notifier %}<li {% live row %}></li>")
    twice = "{% for row in rows %}{% include part %}{% include part with row=row only %}{% endfor %}"
    html = render(f"<ul {{% live rows %}}>{twice}</ul>", user, rows=SimpleModel.objects.order_by("pk"), part=row)
    assert [len(names) for names in granted(html)] == [rows]
    assert granted(render(twice, user, rows=[SimpleModel(pk=7)], part=row)) == [["sample.simplemodel:7"]]


def test_a_template_that_is_included_without_its_context_has_the_pages_user_and_cursor(user: User) -> None:
    part = Template("{% load notifier %}<p {% live 'stock' %}>{% presence 'stock' %}{% notifier %}")
    html = render("{% include part only %}", user, part=part)
    assert granted(html) == [["stock"]] * 2
    assert html.count('data-live-cursor="epoch-7"') == 2
    assert "notifier-config" in html


def test_each_rendering_has_grants_of_its_own(user: User) -> None:
    request = RequestFactory().get("/")
    request.user = user
    context = RequestContext(request)
    template = Template("{% load notifier %}<p {% live 'stock' %}>")
    assert [granted(template.render(context)) for _ in range(2)] == [[["stock"]], [["stock"]]]


def test_rows_that_are_live_alone_share_the_grant_of_an_element_that_is_not_live(user: User, rows: int) -> None:
    template = "<ul {% live_rows rows %}>{% for row in rows %}<li {% live row %}></li>{% endfor %}</ul>"
    html = render(template, user, rows=SimpleModel.objects.order_by("pk"))
    assert re.match(r'<ul data-live-grant="[^"]+" data-live-cursor="epoch-7"><li data-live-topic=', html)
    assert [len(names) for names in granted(html)] == [rows]
    assert html.count("data-live-topic") == rows
    assert render("<ul {% live_rows rows %}>", AnonymousUser(), rows=["stock"]) == "<ul >"


def test_a_long_list_has_as_many_grants_as_it_needs(user: User) -> None:
    html = render("<ul {% live names %}>", user, names=[f"order:{n}" for n in range(120)])
    assert [len(names) for names in granted(html)] == [50, 50, 20]


def test_names_cannot_end_the_attribute_or_the_list(user: User) -> None:
    html = render("<p {% live name %}>", user, name='a b"><script>:ü')
    assert 'data-live-topic="a%20b%22%3E%3Cscript%3E:%C3%BC"' in html
    assert granted(html) == [['a b"><script>:ü']]


@pytest.mark.parametrize("user", [AnonymousUser(), None])
def test_without_a_user_there_is_no_grant(user: Any) -> None:
    assert render("<p {% live 'stock' %}>", user) == '<p data-live-topic="stock">'


def test_what_has_no_topic_is_an_error(user: User) -> None:
    with pytest.raises(InvalidInput):
        render("{% live row %}", user, row=SimpleModel())


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def renew(client: Client, *tokens: object) -> Any:
    return client.post("/notifier/grants", json.dumps({"grants": tokens}), "application/json")


@pytest.fixture
def _permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "_permissions", {})


def sees_row(user: User, row: SimpleModel) -> bool:
    return row.title != "secret"


def sees_build(user: User, rest: str) -> bool:
    return rest == "9"


LIVE = {"LIVE": {"sample.simplemodel": f"{__name__}.sees_row", "build": f"{__name__}.sees_build"}}


def test_a_renewal_asks_again_and_grants_what_may_still_be_seen(client: Client, user: User) -> None:
    first, second = (SimpleModel.objects.create(title=title) for title in ("first", "second"))
    own = "sample.simplemodel"
    token = grants.grant(user, [f"{own}:{first.pk}", f"{own}:{second.pk}", f"{own}:0", "build:9", "build:8", "free:1"])
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "JWT_SECRET": JWT_SECRET, **LIVE}):
        answer = renew(client, token, token).json()
        assert [claims(each)["topics"] for each in answer["grants"]] == [
            [f"{own}:{first.pk}", f"{own}:{second.pk}", "build:9"]
        ]
        assert (answer["denied"], answer["unknown"]) == ([f"{own}:0", "build:8"], ["free:1"])
        SimpleModel.objects.filter(pk=second.pk).update(title="secret")
        answer = renew(client, *answer["grants"]).json()
        assert answer["denied"] == [f"{own}:{second.pk}"]


@pytest.mark.usefixtures("_permissions")
def test_a_decorated_function_is_asked(client: Client, user: User) -> None:
    asked: list[object] = []

    @live_permission(SimpleModel)
    def sees(user: User, row: SimpleModel) -> bool:
        asked.append((user, row))
        return False

    @live_permission("build")
    def sees_all(user: User, rest: str) -> bool:
        return True

    row = SimpleModel.objects.create(title="first")
    answer = renew(
        client, grants.grant(user, [f"sample.simplemodel:{row.pk}", "sample.simplemodel:x", "build:9"])
    ).json()
    assert (asked, answer["denied"]) == ([(user, row)], [f"sample.simplemodel:{row.pk}", "sample.simplemodel:x"])
    assert claims(answer["grants"][0])["topics"] == ["build:9"]


@pytest.mark.usefixtures("_permissions")
def test_an_asynchronous_function_is_waited_for(client: Client, user: User) -> None:
    @live_permission("build")
    async def sees(user: User, rest: str) -> bool:
        return rest == "9"

    answer = renew(client, grants.grant(user, ["build:8", "build:9"])).json()
    assert (claims(answer["grants"][0])["topics"], answer["denied"]) == (["build:9"], ["build:8"])
    may_cancel = {"MAY_CANCEL": f"{__name__}.never"}
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "JWT_SECRET": JWT_SECRET, **may_cancel}):
        token = own_token(user)
    assert "cancel" not in jwt.decode(token, options={"verify_signature": False})


async def never(user: User) -> bool:
    return False


def token_with(**changes: Any) -> str:
    now = int(time.time())
    content = {"sub": "1", "aud": "notifier:topics", "iat": now, "exp": now + 60, "topics": ["build:9"], **changes}
    return jwt.encode(content, changes.pop("secret", JWT_SECRET), algorithm="HS256")


def test_only_the_users_own_grants_are_renewed(client: Client, user: User) -> None:
    old = {"sub": str(user.pk), "iat": 0, "exp": int(time.time()) - 60}
    assert renew(client, token_with(**old)).status_code == 200
    for token in (
        "nonsense",
        subscriber_token(str(user.pk)),
        token_with(sub="another"),
        token_with(sub=str(user.pk), secret="x" * 40),
        token_with(sub=str(user.pk), exp=int(time.time()) - 2 * 3600),
    ):
        assert renew(client, token).status_code == 403
    assert renew(Client(), token_with(sub=str(user.pk))).status_code == 401
    for body in ("", "[]", "{}", '{"grants": [1]}', json.dumps({"grants": ["x"] * 51})):
        assert client.post("/notifier/grants", body, "application/json").status_code == 400
    assert client.get("/notifier/grants").status_code == 405


def test_a_bad_setting_is_an_error() -> None:
    for value in ({"a.b": "no.such"}, {1: f"{__name__}.sees_row"}, ["a.b"]):
        assert [problem.number for problem in problems({"TRANSPORT": "memory", "LIVE": value})] == [29]


def test_the_cursor_of_a_page_is_the_end_of_its_users_order(live: Service, user: User) -> None:
    before = publisher.current().cursor(str(user.pk))
    changed("order:42")
    after = publisher.current().cursor(str(user.pk))
    assert before.partition("-")[0] == after.partition("-")[0]
    assert int(before.partition("-")[2]) < int(after.partition("-")[2])
    listener = Listener(live, user.pk)
    with live.client() as caller:
        url = "/v1/cursor"
        assert caller.get(url, headers=bearer(subscriber_token(str(user.pk)))).json()["cursor"] == after
    listener.close(live, user.pk)


@pytest.mark.parametrize(
    ("method", "headers", "cursor"),
    [
        ("GET", {"COOKIE": ""}, UNKNOWN),
        ("GET", {"SEC_FETCH_MODE": "navigate"}, "memory-0"),
        ("POST", {}, "memory-0"),
        ("DELETE", {"SEC_FETCH_MODE": "cors"}, "memory-0"),
        ("POST", {"SEC_FETCH_MODE": "navigate"}, UNKNOWN),
        ("HEAD", {}, UNKNOWN),
        ("OPTIONS", {}, UNKNOWN),
    ],
)
def test_the_middleware_reads_the_cursor_before_a_view_that_may_answer_a_live_part(
    user: User, method: str, headers: dict[str, str], cursor: str
) -> None:
    cursors: list[object] = []

    def view(request: HttpRequest) -> HttpResponse:
        cursors.append(getattr(request, "notifier_cursor", None))
        return HttpResponse()

    request = RequestFactory().generic(method, "/", **{f"HTTP_{name}": value for name, value in headers.items()})
    if "COOKIE" not in headers:
        request.COOKIES["sessionid"] = "x"
    live(view)(request)
    assert cursors == [cursor]


def cursor_of_a_page() -> object:
    request = RequestFactory().get("/")
    request.COOKIES["sessionid"] = "x"
    live(lambda request: HttpResponse())(request)
    return request.notifier_cursor  # type: ignore[attr-defined]


def test_live_parts_without_the_middleware_are_one_line_of_the_log(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    tags.warn_of_missing_middleware.cache_clear()
    request = RequestFactory().post("/", HTTP_SEC_FETCH_MODE="navigate")
    request.user = user
    live(lambda request: HttpResponse())(request)  # it reads no cursor for this request
    template = Template("{% load notifier %}<p {% live 'stock' %}>{% presence 'desk' %}")
    assert 'data-live-cursor="-"' in template.render(RequestContext(request))
    bare = RequestFactory().get("/")
    bare.user = user
    people = Template("{% load notifier %}{% presence 'desk' %}")
    assert 'data-live-cursor="-"' in people.render(RequestContext(bare))
    assert caplog.records == []
    for _ in range(3):
        assert 'data-live-cursor="-"' in template.render(RequestContext(bare))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("django_bridge", "WARNING")
    assert "django_bridge.middleware.live is missing" in record.getMessage()


def test_a_service_that_is_away_leaves_the_cursor_unknown(
    no_service: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert cursor_of_a_page() == UNKNOWN
    assert caplog.records == []


def test_a_service_that_refuses_the_cursor_is_one_line_of_the_log(
    bridge_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(NOTIFIER=http_settings(bridge_service.url, API_KEY="of another service")):
        assert [cursor_of_a_page() for _ in range(3)] == [UNKNOWN] * 3
    (line,) = [record.getMessage() for record in caplog.records if record.name == "django_bridge"]
    assert "a page's cursor could not be read" in line


async def test_the_middleware_of_asynchronous_code(user: User) -> None:
    with override_settings(MIDDLEWARE=[*django_settings.MIDDLEWARE, "django_bridge.middleware.live"]):
        client = AsyncClient()
        await sync_to_async(client.force_login)(user)  # Django 4.2 has no `aforce_login`
        assert (await client.get("/page/")).status_code == 200


def test_a_grant_of_the_secret_before_is_renewed_with_the_new_one(client: Client, user: User) -> None:
    new = "new-" + "n" * 32
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "JWT_SECRET": f"{new},{JWT_SECRET}", **LIVE}):
        (renewed,) = renew(client, token_with(sub=str(user.pk))).json()["grants"]
        assert renew(client, token_with(sub=str(user.pk), secret="x" * 40)).status_code == 403
    assert jwt.decode(renewed, new, algorithms=["HS256"], audience="notifier:topics")["topics"] == ["build:9"]
