"""Tasks: the calls of their producer and of their user, and their events on streams."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, calling, data_of, problem_of, raw_stream, send, unique
from tests.api.test_publish import publisher_token
from tests.support import API_KEY, Service

PUBLIC = {
    "id",
    "name",
    "status",
    "state",
    "done",
    "total",
    "percent",
    "eta_s",
    "started_at",
    "updated_at",
    "ended_at",
    "error",
    "url",
    "url_text",
    "question",
    "answer",
    "output",
    "cancellable",
}


def begin(client: httpx.Client, user: User | str, key: str | None = None, **fields: Any) -> dict[str, Any]:
    to = user.channel if isinstance(user, User) else user
    headers = {} if key is None else {"Idempotency-Key": key}
    response = client.post("/v1/tasks", json={"to": [to], "name": "Import", **fields}, headers=headers)
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()
    return task


def patch(client: httpx.Client, task: dict[str, Any], key: str | None = None, **change: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.patch(f"/v1/tasks/{task['id']}", json=change, headers=headers)


def patched(client: httpx.Client, task: dict[str, Any], key: str | None = None, **change: Any) -> dict[str, Any]:
    response = patch(client, task, key, **change)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.json()
    return changed


# The producer's side


def test_a_task_begins_running_and_the_response_has_every_field(publisher: httpx.Client, user: User) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    task = begin(publisher, user, state="reading", total=100)
    assert set(task) == PUBLIC | {"cancel_requested"}
    assert before <= datetime.fromisoformat(task["started_at"]) <= datetime.now(UTC)
    assert task["started_at"] == task["updated_at"]
    assert {name: task[name] for name in sorted(task) if not name.endswith("_at")} == {
        "cancel_requested": False,
        "done": 0,
        "error": None,
        "cancellable": True,
        "eta_s": None,
        "id": task["id"],
        "name": "Import",
        "output": None,
        "percent": 0,
        "question": None,
        "answer": None,
        "state": "reading",
        "status": "running",
        "total": 100,
        "url": None,
        "url_text": None,
    }
    assert task["ended_at"] is None


def test_the_publisher_may_set_a_task_s_id_and_omit_the_total(publisher: httpx.Client, user: User) -> None:
    identity = unique("t")
    task = begin(publisher, user, id=identity, total=None)
    assert (task["id"], task["total"], task["percent"]) == (identity, None, None)


def test_an_id_in_use_is_a_conflict_and_the_task_stays(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    body = {"to": [user.channel], "name": "Other", "id": task["id"]}
    with user.sees_no_change():
        problem_of(publisher.post("/v1/tasks", json=body), 409, "id")


def test_each_change_returns_the_task_and_leaves_the_other_fields(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user, total=10, state="reading")
    assert patched(publisher, task, done=3)["percent"] == 30
    assert patched(publisher, task, advance=4)["done"] == 7
    changed = patched(publisher, task, state="writing", total=14)
    assert (changed["state"], changed["done"], changed["total"], changed["percent"]) == ("writing", 7, 14, 50)
    unknown = patched(publisher, task, total="unknown")
    assert (unknown["total"], unknown["percent"], unknown["done"]) == (None, None, 7)


def test_null_leaves_a_field_as_it_is(publisher: httpx.Client, user: User) -> None:
    """As generated clients send it for every field that their caller left out."""
    task = begin(publisher, user, total=10, state="reading")
    nulls = dict.fromkeys(("state", "done", "total", "status", "error", "advance"))
    changed = patched(publisher, task, **{**nulls, "done": 3})
    assert (changed["state"], changed["done"], changed["total"], changed["error"]) == ("reading", 3, 10, None)
    assert patched(publisher, task, **nulls) == changed


def test_a_total_of_null_alone_is_the_deprecated_form_of_unknown(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user, total=10)
    response = patch(publisher, task, total=None)
    assert (response.status_code, response.json()["total"]) == (200, None)
    assert response.headers["Deprecation"].startswith("@")
    assert "Deprecation" not in patch(publisher, task, total="unknown").headers


def test_a_producer_that_restarts_reads_where_its_task_stands(publisher: httpx.Client, user: User) -> None:
    task = patched(publisher, begin(publisher, user, total=10, state="reading"), done=4)
    assert publisher.get(f"/v1/tasks/{task['id']}").json() == task
    with user.sees_no_change():
        assert patched(publisher, task) == task
    assert user.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200
    assert publisher.get(f"/v1/tasks/{task['id']}").json()["cancel_requested"] is True
    assert patched(publisher, task)["cancel_requested"] is True
    ended = patched(publisher, task, status="cancelled")
    assert publisher.get(f"/v1/tasks/{task['id']}").json() == patched(publisher, task) == ended
    problem_of(publisher.get("/v1/tasks/none"), 404, "id")
    problem_of(patch(publisher, {"id": "none"}), 404, "id")


def test_a_user_reads_a_task_that_the_user_watches_and_no_other(
    publisher: httpx.Client, user: User, someone: Callable[..., User], api: Service
) -> None:
    task = begin(publisher, user)
    shown = user.client.get(f"/v1/tasks/{task['id']}")
    assert set(shown.json()) == PUBLIC
    problem_of(someone().client.get(f"/v1/tasks/{task['id']}"), 404, "id")
    for credential, status in ((None, 401), ("an-unknown-api-key", 401), (publisher_token(scope="admin"), 403)):
        with calling(api, credential) as client:
            problem_of(client.get(f"/v1/tasks/{task['id']}"), status)


@ONE_BROKER
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_task_ends_once_and_then_accepts_no_change(publisher: httpx.Client, user: User, status: str) -> None:
    task = begin(publisher, user, total=10)
    ended = patched(publisher, task, status=status, error="why" if status == "failed" else None)
    assert ended["status"] == status
    assert ended["ended_at"] is not None
    assert ended["error"] == ("why" if status == "failed" else None)
    for change in ({"status": "running"}, {"status": status}, {"done": 1}, {"advance": 1}, {"state": "x"}):
        with user.sees_no_change():
            assert problem_of(patch(publisher, task, **change), 409, next(iter(change)))["task_status"] == status


@ONE_BROKER
@pytest.mark.parametrize("status", ["running", "stalled", "cancelling"])
def test_a_task_may_take_any_status_before_its_end(publisher: httpx.Client, user: User, status: str) -> None:
    assert patched(publisher, begin(publisher, user), status=status)["status"] == status


def test_a_task_that_is_not_done_does_not_show_100_percent_when_it_ends(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user, total=1000)
    assert patched(publisher, task, done=999, status="failed")["percent"] == 99


@pytest.mark.parametrize("total", [None, 1000])
def test_a_task_that_succeeds_is_at_100_percent(publisher: httpx.Client, user: User, total: int | None) -> None:
    task = begin(publisher, user, total=total)
    assert patched(publisher, task, status="succeeded")["percent"] == 100
    assert user.tasks()[0]["percent"] == 100


def test_an_unknown_task_is_a_404_that_names_the_id(publisher: httpx.Client, user: User) -> None:
    with user.sees_no_change():
        problem_of(patch(publisher, {"id": unique("none")}, done=1), 404, "id")


def test_concurrent_advances_lose_nothing(api: Service, publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user, total=40)

    def advance(_: int) -> None:
        with calling(api, API_KEY) as client:
            for _ in range(5):
                patched(client, task, advance=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(advance, range(8)))
    assert user.tasks()[0]["done"] == 40


# Idempotency


def test_a_begin_repeated_under_its_key_is_one_task(publisher: httpx.Client, user: User) -> None:
    key = unique("key")
    first = begin(publisher, user, key)
    assert begin(publisher, user, key) == first
    assert [task["id"] for task in user.tasks()] == [first["id"]]


def test_a_begin_under_a_key_gives_the_first_response_also_after_later_changes(
    publisher: httpx.Client, user: User
) -> None:
    key = unique("key")
    first = begin(publisher, user, key, total=10)
    patched(publisher, first, done=5)
    assert begin(publisher, user, key, total=10) == first
    assert user.tasks()[0]["done"] == 5


def test_an_advance_repeated_under_its_key_counts_once(publisher: httpx.Client, user: User) -> None:
    task, key = begin(publisher, user, total=10), unique("key")
    first = patched(publisher, task, key, advance=3)
    assert [patched(publisher, task, key, advance=3) for _ in range(3)] == [first] * 3
    assert user.tasks()[0]["done"] == 3
    assert patched(publisher, task, unique("key"), advance=3)["done"] == 6


def test_an_advance_repeated_concurrently_under_its_key_counts_once(
    api: Service, publisher: httpx.Client, user: User
) -> None:
    task, key = begin(publisher, user, total=100), unique("key")

    def advance(_: int) -> dict[str, Any]:
        with calling(api, API_KEY) as client:
            return patched(client, task, key, advance=7)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(advance, range(8)))
    assert answers == [answers[0]] * 8
    assert user.tasks()[0]["done"] == 7


@ONE_BROKER
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_end_repeated_under_its_key_gives_the_same_answer(publisher: httpx.Client, user: User, status: str) -> None:
    task, key = begin(publisher, user, total=10), unique("key")
    ended = patched(publisher, task, key, status=status, state="over")
    assert patched(publisher, task, key, status=status, state="over") == ended


def test_another_change_under_the_key_is_a_422_and_changes_nothing(publisher: httpx.Client, user: User) -> None:
    task, key = begin(publisher, user, total=10), unique("key")
    patched(publisher, task, key, advance=3)
    with user.sees_no_change():
        problem_of(patch(publisher, task, key, advance=4), 422, "Idempotency-Key")


def test_a_key_used_for_a_task_does_not_apply_to_another_task(publisher: httpx.Client, user: User) -> None:
    task, other, key = begin(publisher, user), begin(publisher, user), unique("key")
    patched(publisher, task, key, advance=3)
    with user.sees_no_change():
        problem_of(patch(publisher, other, key, advance=3), 422, "Idempotency-Key")


# The user's side


def test_a_users_tasks_come_newest_first_and_without_the_producers_field(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    user = someone(groups=[group])
    assert user.tasks() == []
    own, shared = begin(publisher, user, name="own"), begin(publisher, f"group:{group}", name="shared")
    patched(publisher, own, done=1)
    tasks = user.tasks()
    assert [task["id"] for task in tasks] == [own["id"], shared["id"]]
    assert set(tasks[0]) == PUBLIC


def test_a_stream_shows_each_state_of_a_task_and_no_id(publisher: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        cursor = stream.next("hello").id
        task = begin(publisher, user, total=4)
        shown = [stream.next("task")]  # states that arrive together are one: each is awaited before the next
        for change in ({"done": 1}, {"done": 4, "status": "succeeded"}):
            patched(publisher, task, **change)
            shown.append(stream.next("task"))
    assert [data_of(event)["percent"] for event in shown] == [0, 25, 100]
    assert [data_of(event)["status"] for event in shown] == ["running", "running", "succeeded"]
    assert set(data_of(shown[0])) == PUBLIC
    assert {event.id for event in shown} == {cursor}  # that of hello: the parser keeps the last id
    assert user.inbox()["cursor"] == cursor


def test_the_snapshot_at_connect_has_running_tasks_and_ended_ones(publisher: httpx.Client, user: User) -> None:
    running, ended = begin(publisher, user, total=2), begin(publisher, user)
    patched(publisher, ended, status="failed", error="it broke")
    with user.listen() as stream:
        tasks = data_of(stream.next("hello"))["tasks"]
    assert tasks == user.tasks()
    assert {task["id"]: task["status"] for task in tasks} == {running["id"]: "running", ended["id"]: "failed"}


def test_a_user_cancels_and_the_producer_sees_it_in_its_next_response(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user, total=4)
    with user.listen() as stream:
        stream.next("hello")
        assert user.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200
        assert data_of(stream.next("task"))["status"] == "cancelling"
    report = patched(publisher, task, done=1, status="running")
    assert (report["cancel_requested"], report["status"]) == (True, "cancelling")
    assert patched(publisher, task, status="cancelled")["status"] == "cancelled"


def test_a_second_request_to_cancel_changes_nothing(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    user.client.post(f"/v1/tasks/{task['id']}/cancel")
    with user.sees_no_change():
        assert user.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200


def test_a_task_that_has_ended_cannot_be_cancelled(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    patched(publisher, task, status="succeeded")
    with user.sees_no_change():
        problem_of(user.client.post(f"/v1/tasks/{task['id']}/cancel"), 409)


def test_an_ended_task_is_dismissed_for_this_user_only(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    task = begin(publisher, f"group:{group}")
    patched(publisher, task, status="succeeded")
    assert ann.client.delete(f"/v1/tasks/{task['id']}").status_code == 204
    assert ann.tasks() == []
    assert [row["id"] for row in bob.tasks()] == [task["id"]]
    with ann.listen() as stream:
        assert data_of(stream.next("hello"))["tasks"] == []


def test_the_users_other_streams_see_that_a_task_was_dismissed(
    api: Service, publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    task = begin(publisher, f"group:{group}")
    patched(publisher, task, status="succeeded")

    def dismiss() -> None:
        assert ann.client.delete(f"/v1/tasks/{task['id']}").status_code == 204

    with bob.listen() as other:
        other.next("hello")
        wire = raw_stream(api, ann, until=b"task.dismissed", act=dismiss)
        frame = wire.rpartition(b"\n\nevent: task.dismissed\n")[2]
        assert frame == f'data: {{"id":"{task["id"]}"}}\n\n'.encode()  # and no id
        send(publisher, bob)
        other.next("message")


def test_a_running_task_cannot_be_dismissed(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    with user.sees_no_change():
        problem_of(user.client.delete(f"/v1/tasks/{task['id']}"), 409)


def test_a_task_sent_to_many_is_cancelled_only_by_a_token_that_says_so(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")  # not `all`: the users of other tests would watch the task
    ann, chief = someone(groups=[group]), someone(groups=[group], cancel=True)
    task = begin(publisher, f"group:{group}")
    path = f"/v1/tasks/{task['id']}/cancel"
    with ann.sees_no_change():
        refused = problem_of(ann.client.post(path), 403)
    assert "cancel" in refused["detail"]
    assert chief.client.post(path).json()["cancel_requested"] is True


def test_a_user_cancels_a_task_that_is_also_sent_to_a_group(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    owner, other = someone(), someone(groups=[group])
    task = publisher.post("/v1/tasks", json={"to": [owner.channel, f"group:{group}"], "name": "Import"}).json()
    problem_of(other.client.post(f"/v1/tasks/{task['id']}/cancel"), 403)
    assert owner.client.post(f"/v1/tasks/{task['id']}/cancel").json()["status"] == "cancelling"


def test_a_task_says_whether_its_reader_may_cancel_it(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    group = unique("group")
    ann, bob, chief = someone(groups=[group]), someone(groups=[group]), someone(groups=[group], cancel=True)
    recipients = ([user.channel for user in (ann, bob, chief)], [ann.channel, f"group:{group}"], [f"group:{group}"])
    with ann.listen() as stream:
        stream.next("hello")
        for to in recipients:
            publisher.post("/v1/tasks", json={"to": to, "name": "Import"}).raise_for_status()
        live = {}
        while len(live) < len(recipients):  # a task for both channels of a stream may come twice
            data = data_of(stream.next("task"))
            live[data["id"]] = data["cancellable"]
    assert list(live.values()) == [True, None, False]
    for user, expected in ((ann, [True, True, False]), (bob, [True, False, False]), (chief, [True, True, True])):
        with user.listen() as stream:
            hello = data_of(stream.next("hello"))
        with user.listen(after="nonsense") as stream:
            stream.next("hello")
            reset = data_of(stream.next("reset"))
        polled = user.client.get("/v1/poll").json()["tasks"]
        single = [user.client.get(f"/v1/tasks/{task}").json() for task in live]
        for shown in (hello["tasks"], reset["tasks"], polled, user.tasks(), single):
            allowed = {task["id"]: task["cancellable"] for task in shown}
            assert [allowed[task] for task in live] == expected
        for task, may in zip(live, expected, strict=True):
            status = user.client.post(f"/v1/tasks/{task}/cancel").status_code
            assert (status == 200) is may


@pytest.mark.parametrize("call", ["cancel", "dismiss"])
def test_a_task_of_other_users_is_as_unknown_as_one_that_does_not_exist(
    publisher: httpx.Client, someone: Callable[..., User], call: str
) -> None:
    ann, bob = someone(), someone(groups=[unique("group")])
    task = begin(publisher, ann)
    patched(publisher, task, state="reading")

    def ask(task_id: str) -> httpx.Response:
        path = f"/v1/tasks/{task_id}"
        return bob.client.post(f"{path}/cancel") if call == "cancel" else bob.client.delete(path)

    missing = unique("none")
    with ann.sees_no_change():
        theirs = problem_of(ask(task["id"]), 404, "id")
    unknown = problem_of(ask(missing), 404, "id")
    assert {**theirs, "detail": theirs["detail"].replace(task["id"], missing)}["detail"] == unknown["detail"]


@ONE_BROKER
def test_a_publishers_key_does_not_act_for_a_user(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    with user.sees_no_change():
        problem_of(publisher.get("/v1/tasks"), 401)
        problem_of(publisher.post(f"/v1/tasks/{task['id']}/cancel"), 401)
        problem_of(publisher.delete(f"/v1/tasks/{task['id']}"), 401)


@ONE_BROKER
def test_a_users_token_does_not_report_on_a_task(publisher: httpx.Client, user: User) -> None:
    task = begin(publisher, user)
    with user.sees_no_change():
        problem_of(user.client.patch(f"/v1/tasks/{task['id']}", json={"done": 1}), 401)
