"""Administration: presence, for publishers; with the scope `admin` disconnecting and forgetting a user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, problem_of, unique
from tests.api.test_publish import publisher_token
from tests.support import bearer, wait_for

CLOCK = timedelta(milliseconds=1)
"""Times on the wire have whole milliseconds."""
CALLS = [("POST", "/disconnect"), ("DELETE", "")]


def path(name: str, call: str = "") -> str:
    return f"/v1/users/{quote(name, safe='')}{call}"


def seen_at(admin: httpx.Client, name: str) -> datetime:
    """Long ago where no process has written the user's time yet."""
    at: str | None = admin.get(path(name, "/presence")).json()["last_seen_at"]
    return datetime.fromisoformat(at) if at else datetime.min.replace(tzinfo=UTC)


def is_online(admin: httpx.Client, name: str) -> bool:
    response = admin.get(path(name, "/presence"))
    assert response.status_code == 200, response.text
    connections = response.json()["connections"]
    seen = response.json()["last_seen_at"]
    assert response.json() == {
        "user": name,
        "online": connections > 0,
        "connections": connections,
        "last_seen_at": seen,
    }
    return bool(connections)


def test_a_user_is_present_while_any_stream_is_open(admin: httpx.Client, user: User) -> None:
    assert is_online(admin, user.name) is False
    with user.listen() as first:
        first.next("hello")
        with user.listen() as second:
            second.next("hello")
            assert is_online(admin, user.name) is True
            both = lambda: admin.get(path(user.name, "/presence")).json()["connections"] == 2  # noqa: E731
            wait_for(both, what="the answers of both workers")
        assert is_online(admin, user.name) is True
    wait_for(lambda: not is_online(admin, user.name), what="absence")


def test_a_user_was_last_seen_when_their_last_stream_ended(admin: httpx.Client, user: User) -> None:
    assert admin.get(path(user.name, "/presence")).json()["last_seen_at"] is None
    opened = datetime.now(UTC)
    with user.listen() as stream:
        stream.next("hello")
        moments = [seen_at(admin, user.name) for _ in range(2)]
        assert opened - CLOCK <= moments[0] <= moments[1]
        before_end = datetime.now(UTC)
    wait_for(lambda: not is_online(admin, user.name), what="absence")
    wait_for(lambda: seen_at(admin, user.name) >= before_end - CLOCK, what="the write of the other process")
    ended = seen_at(admin, user.name)
    assert ended <= datetime.now(UTC) + CLOCK
    assert seen_at(admin, user.name) == ended
    several = admin.post("/v1/presence", json={"users": [user.name, "never-seen"]}).json()["users"]
    assert several["never-seen"] == {"online": False, "last_seen_at": None}
    assert datetime.fromisoformat(several[user.name]["last_seen_at"]) == ended
    assert admin.delete(path(user.name)).status_code < 300
    assert admin.get(path(user.name, "/presence")).json()["last_seen_at"] is None


def test_all_streams_of_a_user_are_ended_and_those_of_others_stay(
    admin: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    with ann.listen() as first, ann.listen() as second, ann.listen() as third, bob.listen() as other:
        for stream in (first, second, third, other):
            stream.next("hello")
        assert admin.post(path(ann.name, "/disconnect")).json() == {"user": ann.name}
        for stream in (first, second, third):
            (bye,) = stream.rest()
            assert data_of(bye) == {"reason": "revoked", "retry_ms": bye.retry}
        admin.post("/v1/messages", json={"to": [f"group:{group}"], "subject": "Test"})
        other.next("message")


def test_nothing_is_lost_by_a_disconnect(admin: httpx.Client, user: User) -> None:
    with user.listen() as stream:
        cursor = stream.next("hello").id
        admin.post(path(user.name, "/disconnect"))
        stream.rest()
    sent = admin.post("/v1/messages", json={"to": [user.channel], "subject": "Test"}).json()

    def received() -> str | None:
        """None where the stream was ended too, see `opens`."""
        with user.listen(after=cursor) as stream:
            return stream.next("message").id if stream.next().event == "hello" else None

    assert wait_for(received, what="a stream after the disconnect") == sent["cursor"]


def test_a_user_without_streams_can_be_disconnected(admin: httpx.Client) -> None:
    assert admin.post(path(unique(), "/disconnect")).status_code == 200


# Forgetting


def opens(user: User, cursor: str | None = None) -> bool:
    """False where the service cannot tell whether the stream began before a disconnect or after it, and ends it too."""
    with user.listen(after=cursor) as stream:
        return stream.next().event == "hello"


def test_a_forgotten_user_has_no_messages_no_marks_and_no_tasks(admin: httpx.Client, user: User) -> None:
    to = {"to": [user.channel]}
    first, second = (admin.post("/v1/messages", json={**to, "subject": "Test"}).json()["id"] for _ in range(2))
    user.client.post("/v1/inbox/read", json={"ids": [first]})
    user.client.delete(f"/v1/inbox/{second}")
    admin.post("/v1/tasks", json={**to, "name": "Import"})
    assert admin.delete(path(user.name)).status_code == 204
    assert (user.messages(), user.unread(), user.tasks()) == ([], 0, [])
    wait_for(lambda: opens(user), what="a stream that began after the end of the user's streams")
    with user.listen() as stream:
        hello = data_of(stream.next("hello"))
    assert (hello["unread"], hello["tasks"]) == (0, [])


def test_forgetting_a_user_ends_its_streams_and_an_old_cursor_is_a_reset(admin: httpx.Client, user: User) -> None:
    to = {"to": [user.channel]}
    with user.listen() as stream:
        cursor = stream.next("hello").id
        admin.post("/v1/messages", json={**to, "subject": "Test"})
        stream.next("message")
        admin.delete(path(user.name))
        assert data_of(stream.rest()[-1])["reason"] == "revoked"
    wait_for(lambda: opens(user, cursor), what="a stream that began after the disconnect")
    with user.listen(after=cursor) as stream:
        assert data_of(stream.next("hello"))["recovered"] is False
        cursor = stream.next("reset").id
    sent = admin.post("/v1/messages", json={**to, "subject": "after"}).json()
    with user.listen(after=cursor) as stream:
        assert data_of(stream.next("hello"))["recovered"] is True
        assert stream.next("message").id == sent["cursor"]


def test_forgetting_a_user_leaves_the_data_of_others(admin: httpx.Client, someone: Callable[..., User]) -> None:
    group = unique("group")
    ann, bob, anna = someone(groups=[group]), someone(groups=[group]), someone(unique("ann") + "a")
    for to in (bob.channel, anna.channel, f"group:{group}"):
        admin.post("/v1/messages", json={"to": [to], "subject": "Test"})
        admin.post("/v1/tasks", json={"to": [to], "name": "Import"})
    before = [(user.messages(), user.tasks()) for user in (bob, anna)]
    admin.delete(path(ann.name))
    admin.delete(path(anna.name[:-1]))
    assert [(user.messages(), user.tasks()) for user in (bob, anna)] == before


def test_forgetting_a_user_without_data_succeeds(admin: httpx.Client) -> None:
    assert [admin.delete(path(unique())).status_code for _ in range(2)] == [204, 204]


# Names and scopes


@pytest.mark.parametrize("name", ["a/b", "a:b", "{a}", "a?b#c", "a b", "ä", "presence", "a/presence", "x" * 110])
def test_users_of_any_name_are_kept_apart(admin: httpx.Client, someone: Callable[..., User], name: str) -> None:
    user = someone(f"{unique('n')[:15]}{name}")
    with user.listen() as stream:
        stream.next("hello")
        assert is_online(admin, user.name) is True
        assert is_online(admin, user.name[:-1]) is False
        admin.post("/v1/messages", json={"to": [user.channel], "subject": "Test"})
        stream.next("message")
        admin.delete(path(user.name[:-1]))
        assert len(user.messages()) == 1
        admin.delete(path(user.name))
        assert stream.next("bye").event == "bye"
        assert user.messages() == []


@ONE_BROKER
@pytest.mark.parametrize("name", ["a" * 129, "a\t", "\x7f"])
@pytest.mark.parametrize(("method", "call"), CALLS)
def test_a_name_that_breaks_a_rule_is_refused(admin: httpx.Client, method: str, call: str, name: str) -> None:
    problem_of(admin.request(method, path(name, call)), 422, "id")


@ONE_BROKER
@pytest.mark.parametrize(("method", "call"), CALLS)
def test_only_the_scope_admin_administers(
    anyone: httpx.Client, publisher: httpx.Client, user: User, method: str, call: str
) -> None:
    with user.listen() as stream:
        stream.next("hello")
        problem_of(anyone.request(method, path(user.name, call)), 401)
        problem_of(user.client.request(method, path(user.name, call)), 401)
        refused = publisher.request(method, path(user.name, call))
        problem_of(refused, 403)
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
        publisher.post("/v1/messages", json={"to": [user.channel], "subject": "still there"})
        stream.next("message")


@ONE_BROKER
@pytest.mark.parametrize(("method", "call"), CALLS)
def test_a_token_for_publishing_does_not_administer_whatever_its_scope(
    anyone: httpx.Client, user: User, method: str, call: str
) -> None:
    token = publisher_token(scope="publish admin")
    with user.listen() as stream:
        stream.next("hello")
        problem_of(anyone.request(method, path(user.name, call), headers=bearer(token)), 403)
        message = {"to": [user.channel], "subject": "still there"}
        anyone.post("/v1/messages", json=message, headers=bearer(token))
        stream.next("message")
