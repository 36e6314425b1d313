"""Live pages of models whose primary key has several columns (`CompositePrimaryKey` of Django 5.2)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.template import RequestContext, Template
from django.test import Client, RequestFactory

from django_bridge import changed, grants, live_permission
from django_bridge.live import _name, topic_of
from django_bridge.testing import outbox
from notifier.errors import InvalidInput
from tests.django.sample.models import SimpleModel


def test_a_key_of_several_parts_is_no_key_of_a_model_with_a_single_column() -> None:
    with pytest.raises(InvalidInput, match="key of another type"):
        topic_of(SimpleModel(pk=(1, 2)))


if django.VERSION >= (5, 2):
    from tests.django.sample.models import Part

    BATCH = uuid.UUID("6f3d4c1e-0000-4000-8000-000000000007")

    @pytest.fixture
    def part() -> Part:
        return Part.objects.create(batch=BATCH, owner=SimpleModel.objects.create(title="owner"), label='a "b", c')

    def name_of(part: Part) -> str:
        return f'sample.part:["{BATCH}",{part.owner_id},"a \\"b\\", c"]'

    def test_a_row_has_one_topic_whichever_way_it_is_named(part: Part) -> None:
        assert topic_of(part).name == name_of(part)
        written = Part(batch=str(BATCH), owner_id=str(part.owner_id), label=part.label)
        assert topic_of(written).name == name_of(part)
        changed(part)
        changed(Part.objects.all())
        changed(Part.objects.filter(label=part.label))
        assert [event["to"] for event in outbox.events] == [[f"topic:{name_of(part)}"]] * 3

    def test_a_row_that_was_never_saved_has_no_topic() -> None:
        with pytest.raises(InvalidInput, match="never saved"):
            topic_of(Part(batch=BATCH, label="a"))

    def test_the_grant_of_a_row_is_renewed_while_its_user_may_see_it(
        part: Part, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(grants, "_permissions", {})
        asked: list[Any] = []

        @live_permission(Part)
        def sees(user: User, part: Part) -> bool:
            asked.append(part)
            return part.title != "secret"

        request = RequestFactory().get("/")
        request.user = user
        html = Template("{% load notifier %}<p {% live part %}>").render(RequestContext(request, {"part": part}))
        token = html.split('data-live-grant="')[1].split('"')[0]
        client = Client()
        client.force_login(user)

        def renewal(token: str) -> Any:
            return client.post("/notifier/grants", json.dumps({"grants": [token]}), "application/json").json()

        answer = renewal(token)
        assert (asked, answer["denied"], len(answer["grants"])) == ([part], [], 1)
        Part.objects.update(title="secret")
        assert renewal(answer["grants"][0])["denied"] == [name_of(part)]

    def test_a_key_with_too_few_parts_is_no_key() -> None:
        with pytest.raises(InvalidInput, match="key of another type"):
            _name(Part, (BATCH, 7))

    @pytest.mark.parametrize(
        "key",
        ["", "7", "null", "x", "[]", "[1, 2]", '{"batch": 1}', "[1, 2, 3]", f'["{BATCH}", 0, "a"]', "[[], {}, []]"],
    )
    def test_a_name_that_is_no_key_is_denied(key: str, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grants, "_permissions", {"sample.part": lambda user, part: True})
        name = f"sample.part:{key}"
        assert grants.renewed(user, [grants.grant(user, [name])]).denied == [name]
