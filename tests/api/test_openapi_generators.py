"""What generators of clients need of the OpenAPI document: forms that they read, in versions 3.1 and 3.0."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import ValidationError
from openapi_spec_validator import OpenAPIV30SpecValidator

from notifier import rules
from notifier.api.hooks import SIGNATURE
from notifier.auth import topic_grant
from notifier.task import STATUSES
from tests.api.support import calling, unique
from tests.api.test_openapi import answers, calls_of, matches, resolved
from tests.support import ADMIN_KEY, API_KEY, JWT_SECRET, Service, bearer, running, subscriber_token, wait_for


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    return _served(service, "/openapi.json")


@pytest.fixture(scope="module")
def older(service: Service) -> dict[str, Any]:
    return _served(service, "/openapi-3.0.json")


def _served(service: Service, path: str) -> dict[str, Any]:
    with calling(service) as client:
        document: dict[str, Any] = client.get(path).raise_for_status().json()
    return document


@pytest.fixture
def calls(service: Service) -> Iterator[httpx.Client]:
    with calling(service, API_KEY) as client:
        yield client


def schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from schemas_in(part)


def test_an_optional_field_is_one_that_is_not_required_and_has_no_default(document: dict[str, Any]) -> None:
    for name, model in document["components"]["schemas"].items():
        for field, schema in model.get("properties", {}).items():
            assert "default" not in schema, (name, field)
    assert set(document["components"]["schemas"]["MessageIn"]["required"]) == {"to", "subject"}


def accepts_null(document: dict[str, Any], schema: dict[str, Any]) -> bool:
    try:
        matches(document, schema, None)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("model", "method", "path", "needed"),
    [
        ("MessageIn", "post", "/v1/messages", {"subject": "Test"}),
        ("EventIn", "post", "/v1/events", {"type": "order.paid"}),
        ("TaskIn", "post", "/v1/tasks", {"name": "Import"}),
        ("TaskPatch", "patch", "/v1/tasks/{task}", {}),
    ],
)
def test_null_is_in_the_document_where_the_call_accepts_it(
    document: dict[str, Any], calls: httpx.Client, model: str, method: str, path: str, needed: dict[str, Any]
) -> None:
    to = {} if method == "patch" else {"to": ["user:42"]}
    task = calls.post("/v1/tasks", json={"to": ["user:42"], "name": "Import"}).json()["id"]
    shape = document["components"]["schemas"][model]
    for field, schema in shape["properties"].items():
        response = calls.request(method, path.format(task=task), json={**to, **needed, field: None})
        assert response.status_code == (200 if accepts_null(document, schema) else 422), (field, response.text)


def test_operations_have_short_names_of_their_own(document: dict[str, Any]) -> None:
    names = [call["operationId"] for call in calls_of(document).values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]{4,20}", name) for name in names), names


def test_words_of_a_list_are_enumerations_with_names(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]
    assert shapes["MessageLevel"]["enum"] == list(rules.LEVELS)
    assert set(shapes["TaskStatus"]["enum"]) == STATUSES
    for model in ("MessageIn", "MessageData", "CorrectionIn"):
        assert shapes[model]["properties"]["level"]["$ref"].endswith("/MessageLevel")
    assert shapes["TaskData"]["properties"]["status"]["$ref"].endswith("/TaskStatus")
    assert {"drain", "slow", "expired"} < set(shapes["Bye"]["properties"]["reason"]["enum"])
    assert {"cursor_unknown", "history_trimmed"} < set(shapes["Reset"]["properties"]["reason"]["enum"])


def kinds_of(schema: dict[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def test_numbers_and_times_have_formats(document: dict[str, Any]) -> None:
    components = document["components"]
    for schema in schemas_in([document["paths"], components["schemas"], components["parameters"]]):
        if "integer" in kinds_of(schema):
            assert schema["format"] == "int64", schema
        if "number" in kinds_of(schema):
            assert schema["format"] == "double", schema
        for name, field in schema.get("properties", {}).items():
            if name.endswith("_at") or name == "time":
                assert field["format"] == "date-time", name
    assert document["components"]["schemas"]["TaskData"]["properties"]["total"]["format"] == "int64"


def test_no_field_is_a_choice_without_a_name(document: dict[str, Any]) -> None:
    """Generators make empty classes of choices between unnamed schemas."""
    for name, model in document["components"]["schemas"].items():
        for field, schema in model.get("properties", {}).items():
            for part in schema.get("anyOf", []) + schema.get("oneOf", []):
                assert set(part) == {"$ref"} or part == {"type": "null"}, (name, field)


def test_items_of_a_batch_are_told_apart_by_their_kind(document: dict[str, Any], calls: httpx.Client) -> None:
    shape = calls_of(document)["post", "/v1/batch"]["requestBody"]["content"]["application/json"]["schema"]
    item = resolved(document, shape["items"])
    assert item["discriminator"]["propertyName"] == "kind"
    assert set(item["discriminator"]["mapping"]) == {"message", "task", "event", "patch", "output"}
    assert {part["$ref"] for part in item["oneOf"]} == set(item["discriminator"]["mapping"].values())
    to, task = {"to": ["user:42"]}, unique("task")
    batch = [
        {"kind": "message", **to, "subject": "Test"},
        {"kind": "task", **to, "name": "Import", "id": task},
        {"kind": "event", **to, "type": "order.paid"},
        {"kind": "patch", "id": task, "done": 1},
        {"kind": "output", "id": task, "text": "42 rows"},
    ]
    matches(document, shape, batch)
    results = answers(document, "post", "/v1/batch", calls.post("/v1/batch", json=batch))["results"]
    assert [result["status"] for result in results] == [200] * 5
    for wrong in ({"kind": "letter", **to}, {"kind": "output", "id": task}, {"subject": "Test", **to}):
        with pytest.raises(ValidationError):
            matches(document, shape, [wrong])


def test_the_document_says_where_the_service_is(document: dict[str, Any]) -> None:
    first, *others = document["servers"]
    assert first["url"] == "/"
    assert others[0]["variables"]["address"]["default"].startswith("http")


def test_calls_of_administrators_say_so(document: dict[str, Any], service: Service) -> None:
    own = {key for key, call in calls_of(document).items() if call.get("security") == [{"administrator": []}]}
    assert own == {
        ("delete", "/v1/users/{user_id}"),
        ("post", "/v1/users/{user_id}/disconnect"),
        ("get", "/v1/users/{user_id}/connections"),
        ("get", "/v1/messages/{message_id}/trace"),
        ("get", "/v1/console"),
        ("get", "/v1/console/inbox"),
    }
    assert "`admin`" in document["components"]["securitySchemes"]["administrator"]["description"]
    for method, path in own:
        with calling(service, API_KEY) as publisher, calling(service, ADMIN_KEY) as admin:
            address = path.format(user_id=unique(), message_id=unique())
            query = {"user": "42"} if path.endswith(("/trace", "/inbox")) else {}
            answers(document, method, path, publisher.request(method, address, params=query))
            allowed = admin.request(method, address, params=query)
            assert allowed.is_success or allowed.status_code == 404, allowed.text


def test_a_hook_has_credentials_of_its_own(document: dict[str, Any]) -> None:
    call = calls_of(document)["post", "/v1/hooks/{name}"]
    schemes = document["components"]["securitySchemes"]
    assert call["security"] == [{"hook": []}, {"hookPassword": []}, {"hookSignature": []}]
    assert [(schemes[name]["type"], schemes[name].get("scheme")) for (name,) in call["security"]] == [
        ("http", "bearer"),
        ("http", "basic"),
        ("apiKey", None),
    ]
    assert (schemes["hookSignature"]["in"], schemes["hookSignature"]["name"]) == ("header", SIGNATURE)


def test_every_security_scheme_is_used_and_described(document: dict[str, Any]) -> None:
    used = {name for call in calls_of(document).values() for way in call.get("security", ()) for name in way}
    assert used == set(document["components"]["securitySchemes"])


def test_the_answers_of_a_hook_match_the_document(document: dict[str, Any]) -> None:
    """By each of its credentials, and with the headers of the publish rate."""
    path, key = "/v1/hooks/{name}", "hook-key-0123456789"
    hooks = f"boards:grafana:all:{key},backup:ntfy:all:{key}"
    body = b'{"groupKey":"{}:{}","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"Full"}}]}'
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    with running(Service(env={"NOTIFIER_HOOKS": hooks, "NOTIFIER_PUBLISH_RATE": "2"})) as own, calling(own) as client:

        def post(name: str, status: int, **request: Any) -> None:
            response = client.post(f"/v1/hooks/{name}", **request)
            assert response.status_code == status, response.text
            assert ("RateLimit" in response.headers) is (status in (200, 429))
            answers(document, "post", path, response)

        post("boards", 401, content=body, headers=bearer(API_KEY))
        post("boards", 200, content=body, headers={SIGNATURE: signature})
        post("backup", 200, content=b"done", headers=bearer(key))
        post("backup", 200, content=b"done", auth=("anyone", key))
        wait_for(lambda: client.post("/v1/hooks/backup", content=b"x", headers=bearer(key)).status_code == 429)
        post("backup", 429, content=b"x", headers=bearer(key))


def test_the_stream_documents_each_of_its_answers(document: dict[str, Any], service: Service) -> None:
    responses = calls_of(document)["get", "/v1/stream"]["responses"]
    token, many = subscriber_token("ann"), [f"order:{i}" for i in range(205)]
    parts = [many[i : i + 41] for i in range(0, 205, 41)]
    own = [topic_grant(JWT_SECRET, "ann", part) for part in parts]
    cases: dict[str, tuple[str, list[str]]] = {
        "401": ("", []),
        "403": (token, [topic_grant(JWT_SECRET, "bob", ["order:42"])]),
        "409": (token, own),
        "422": (token, ["x"] * 21),
    }
    with calling(service) as client:
        for status, (credential, grants) in cases.items():
            headers = bearer(credential) if credential else {}
            response = client.get("/v1/stream", params={"grant": grants}, headers=headers)
            assert str(response.status_code) == status, response.text
            answers(document, "get", "/v1/stream", response)
        with client.stream("GET", "/v1/stream", headers=bearer(token)) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            assert set(responses["200"]["headers"]) == {"Cache-Control", "X-Accel-Buffering"}
            assert stream.headers["Cache-Control"] == "no-store, no-transform"
            assert stream.headers["X-Accel-Buffering"] == "no"
    assert set(responses) == {"200", "503", *cases}


def test_answers_that_say_when_to_call_again_have_the_header(document: dict[str, Any]) -> None:
    for (_, path), call in calls_of(document).items():
        for status, answer in call["responses"].items():
            names = set(answer.get("headers", ()))
            assert ("Retry-After" in names) is (status in ("429", "503") and path.startswith("/v1/")), (path, status)
            assert ("WWW-Authenticate" in names) is (status in ("401", "403")), (path, status)


def test_the_same_document_is_served_in_version_3_0(document: dict[str, Any], older: dict[str, Any]) -> None:
    OpenAPIV30SpecValidator(older).validate()
    assert older["openapi"].startswith("3.0")
    assert set(calls_of(older)) == set(calls_of(document))
    assert older["components"].keys() == document["components"].keys()
    assert older["components"]["schemas"].keys() == document["components"]["schemas"].keys()


def test_version_3_0_has_no_words_of_3_1(older: dict[str, Any]) -> None:
    for schema in schemas_in(older["components"]["schemas"]):
        assert schema.get("type") != "null"
        assert not isinstance(schema.get("type"), list), schema
        assert not {"const", "examples", "$defs"} & set(schema), schema
        if "$ref" in schema:
            assert set(schema) == {"$ref"}
    patch = older["components"]["schemas"]["TaskPatch"]["properties"]
    assert (patch["done"]["type"], patch["done"]["nullable"]) == ("integer", True)
    assert (patch["status"]["allOf"], patch["status"]["nullable"]) == ([{"$ref": STATUS}], True)
    assert older["components"]["schemas"]["MessageIn"]["properties"]["to"]["example"] == ["user:42"]


STATUS = "#/components/schemas/TaskStatus"
