"""A page's configuration: the token, the tag, the view that renews the token; and the admin's pages."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import jwt
import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.test import Client, RequestFactory, override_settings
from httpx_sse import connect_sse

from django_bridge import Task
from django_bridge.models import TaskRecord
from django_bridge.tokens import subscriber_token
from tests.support import JWT_SECRET, Service


def claims(token: str) -> Any:
    return jwt.decode(token, JWT_SECRET, algorithms=["HS256"], audience="notifier:stream")


def rendered(user: object, **attributes: Any) -> str:
    request: Any = RequestFactory().get("/")
    request.user = user
    for name, value in attributes.items():
        setattr(request, name, value)
    return Template("{% load notifier %}{% notifier %}").render(Context({"request": request}))


def config(page: str) -> Any:
    match = re.search(r'<script id="notifier-config" type="application/json">(.*?)</script>', page)
    assert match
    return json.loads(match.group(1))


def test_a_token_has_the_user_its_groups_and_an_end(user: User) -> None:
    for name in ("staff", "editors", "x" * 140):
        user.groups.add(Group.objects.create(name=name))
    payload = claims(subscriber_token(user))
    assert abs(payload["exp"] - time.time() - 3600) < 5
    assert {**payload, "iat": 0, "exp": 0} == {
        "sub": str(user.pk),
        "aud": "notifier:stream",
        "iat": 0,
        "exp": 0,
        "name": "Ann Lee",
        "groups": ["editors", "staff"],
    }


def test_the_service_accepts_the_token(over_http: Service, user: User) -> None:
    user.groups.add(Group.objects.create(name="staff"))
    with (
        httpx.Client(params={"token": subscriber_token(user)}, timeout=10) as client,
        connect_sse(client, "GET", f"{over_http.url}/v1/stream") as source,
    ):
        assert next(source.iter_sse()).event == "hello"


def test_without_a_secret_a_token_is_an_error(user: User) -> None:
    with override_settings(NOTIFIER={"TRANSPORT": "memory"}), pytest.raises(ImproperlyConfigured, match="JWT_SECRET"):
        subscriber_token(user)


def test_the_tag_renders_address_token_and_script(user: User) -> None:
    page = rendered(user)
    configuration = config(page)
    assert (configuration["url"], configuration["tokenUrl"]) == ("http://notifier.test:8000", "/notifier/token/")
    assert claims(configuration["token"])["sub"] == str(user.pk)
    assert '<script type="module" src="/static/notifier/django.js"></script>' in page


def test_the_tag_renders_nothing_for_anonymous_users() -> None:
    assert rendered(AnonymousUser()) == ""
    assert Template("{% load notifier %}{% notifier %}").render(Context()) == ""


def test_without_a_request_the_tag_uses_the_user_of_the_context(user: User) -> None:
    page = Template("{% load notifier %}{% notifier %}").render(Context({"user": user}))
    assert claims(config(page)["token"])["sub"] == str(user.pk)


def test_the_script_has_the_nonce_of_the_content_security_policy(user: User) -> None:
    assert 'nonce="abc&quot;&gt;"' in rendered(user, csp_nonce='abc">')
    assert "nonce" not in rendered(user)


def test_no_value_can_end_the_script_element(user: User) -> None:
    evil = "https://example.org/</script><script>alert(1)</script>"
    with override_settings(NOTIFIER={"TRANSPORT": "memory", "PUBLIC_URL": evil, "JWT_SECRET": JWT_SECRET}):
        page = rendered(user)
    assert page.count("</script>") == 2
    assert config(page)["url"] == evil


@override_settings(ROOT_URLCONF="tests.django.sample.urls")
def test_without_the_token_view_there_is_no_url_of_it(user: User) -> None:
    assert config(rendered(user))["tokenUrl"] is None


def test_the_view_renews_the_token_of_the_sessions_user_and_is_never_cached(user: User) -> None:
    client = Client()
    client.force_login(user)
    answer = client.get("/notifier/token/")
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 3600
    assert claims(answer.json()["token"])["sub"] == str(user.pk)
    assert "no-store" in answer.headers["Cache-Control"]
    assert "private" in answer.headers["Cache-Control"]


def test_the_view_refuses_anonymous_users_and_other_methods(user: User) -> None:
    answer = Client().get("/notifier/token/")
    assert (answer.status_code, "no-store" in answer.headers["Cache-Control"]) == (401, True)
    client = Client()
    client.force_login(user)
    assert client.post("/notifier/token/").status_code == 405


# The admin


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_the_admin_lists_tasks_with_their_percent_and_filters_them(admin: Client, user: User) -> None:
    half = Task(from_user=user, task_name="Half done")
    half.begin(total=4)
    half.set_state("step 2", done=2)
    failed = Task(from_user=user.pk + 1000, task_name="Broken")
    failed.fail("no paper")
    page = admin.get("/admin/django_bridge/taskrecord/").content.decode()
    assert all(text in page for text in ("Half done", "50 %", "step 2", "Broken", "ann"))
    page = admin.get("/admin/django_bridge/taskrecord/?status__exact=failed").content.decode()
    assert "Broken" in page
    assert "Half done" not in page
    assert "Half done" in admin.get("/admin/django_bridge/taskrecord/?q=step").content.decode()
    assert "no paper" in admin.get(f"/admin/django_bridge/taskrecord/{failed.id}/change/").content.decode()


def test_the_admin_changes_nothing(admin: Client, user: User) -> None:
    task = Task(from_user=user, task_name="Half done")
    task.begin()
    assert admin.get("/admin/django_bridge/taskrecord/add/").status_code == 403
    address = f"/admin/django_bridge/taskrecord/{task.id}"
    assert admin.post(f"{address}/change/", {"name": "other"}).status_code == 403
    assert admin.post(f"{address}/delete/", {"post": "yes"}).status_code == 403
    assert TaskRecord.objects.get().name == "Half done"


def test_the_tasks_of_a_user_are_deleted_with_the_user(user: User) -> None:
    Task(from_user=user, task_name="Half done").begin()
    user.delete()
    assert not TaskRecord.objects.exists()
