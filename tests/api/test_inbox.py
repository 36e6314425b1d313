"""The inbox: listing, paging, read marks, deletion; the same in all tabs of a user, separate between users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import ONE_BROKER
from tests.api.support import User, data_of, mark, problem_of, send, unique

# Listing


def test_an_empty_inbox_has_no_messages_and_still_a_cursor(user: User) -> None:
    page = user.inbox()
    assert (page["messages"], page["more"], page["unread"]) == ([], False, 0)
    with user.listen(after=page["cursor"]) as stream:
        assert data_of(stream.next("hello"))["recovered"] is True


def test_messages_come_newest_first_with_the_fields_of_streams_and_their_read_mark(
    publisher: httpx.Client, user: User
) -> None:
    with user.listen() as stream:
        stream.next("hello")
        for subject in ("one", "two"):
            send(publisher, user, subject=subject)
        shown = [data_of(stream.next("message")) for _ in range(2)]
    assert user.inbox()["messages"] == [{**message, "read": False} for message in reversed(shown)]


def test_25_messages_come_by_default(publisher: httpx.Client, user: User) -> None:
    items = [{"kind": "message", "to": [user.channel], "subject": str(i)} for i in range(26)]
    publisher.post("/v1/batch", json=items)
    page = user.inbox()
    assert (len(page["messages"]), page["more"], page["unread"]) == (25, True, 26)


def test_pages_follow_each_other_without_gap_or_repeat(publisher: httpx.Client, user: User) -> None:
    ids = [send(publisher, user) for _ in range(7)]
    listed: list[str] = []
    before: dict[str, str] = {}
    for expected_more in (True, True, False):
        page = user.inbox(limit=3, **before)
        listed += [message["id"] for message in page["messages"]]
        assert page["more"] is expected_more
        assert page["unread"] == 7
        before = {"before": listed[-1]}
    assert listed == ids[::-1]


def test_a_page_that_ends_with_the_last_message_has_no_more(publisher: httpx.Client, user: User) -> None:
    for _ in range(3):
        send(publisher, user)
    assert user.inbox(limit=3)["more"] is False


def test_before_an_unknown_message_there_is_nothing(publisher: httpx.Client, user: User) -> None:
    send(publisher, user)
    page = user.inbox(before=unique("none"))
    assert (page["messages"], page["more"]) == ([], False)


def test_only_unread_ones_can_be_listed(publisher: httpx.Client, user: User) -> None:
    first, second, third = (send(publisher, user) for _ in range(3))
    mark(user, second)
    assert [message["id"] for message in user.inbox(unread="1")["messages"]] == [third, first]
    assert len(user.inbox(unread="0")["messages"]) == 3
    assert user.inbox(unread="1", limit=1)["more"] is True


@ONE_BROKER
@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"unread": "yes"}, "unread"),
        ({"before": "a b"}, "before"),
        ({"before": "x" * 65}, "before"),
    ],
    ids=str,
)
def test_a_query_that_breaks_a_rule_is_refused_with_the_field(user: User, params: dict[str, str], field: str) -> None:
    problem_of(user.client.get("/v1/inbox", params=params), 422, field)


# Read marks and deletion


def test_messages_are_marked_as_read_one_by_one_or_all(publisher: httpx.Client, user: User) -> None:
    first, second, third = (send(publisher, user) for _ in range(3))
    assert user.unread() == 3
    assert mark(user, first, third) == 1
    assert {message["id"]: message["read"] for message in user.messages()} == {first: True, second: False, third: True}
    assert mark(user, first) == 1
    assert mark(user) == 0
    assert user.unread() == 0
    send(publisher, user)
    assert user.unread() == user.inbox()["unread"] == 1


def test_unknown_ids_among_those_to_mark_are_ignored(publisher: httpx.Client, user: User) -> None:
    known = send(publisher, user)
    assert mark(user, unique("none"), known) == 0


def test_a_deleted_message_is_gone_from_list_count_and_paging(publisher: httpx.Client, user: User) -> None:
    first, second, third = (send(publisher, user) for _ in range(3))
    response = user.client.delete(f"/v1/inbox/{second}")
    assert response.status_code == 200
    assert [message["id"] for message in user.messages()] == [third, first]
    assert user.unread() == 2
    problem_of(user.client.delete(f"/v1/inbox/{second}"), 404, "id")


def test_each_recipient_reads_and_deletes_a_message_independently(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    group = unique("group")
    ann, bob = someone(groups=[group]), someone(groups=[group])
    identity = send(publisher, f"group:{group}")
    mark(ann, identity)
    with bob.sees_no_change():
        ann.client.delete(f"/v1/inbox/{identity}")
    assert [(message["id"], message["read"]) for message in bob.messages()] == [(identity, False)]
    assert ann.messages() == []


@ONE_BROKER
@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "ids"),
        ({"all": False}, 422, "ids"),
        ({"ids": ["a"], "all": True}, 422, "ids"),
        ({"ids": "a"}, 422, "ids"),
        ({"ids": [7]}, 422, "ids[0]"),
        ({"ids": ["ok", "a b"]}, 422, "ids[1]"),
        ({"ids": ["a"] * 1001}, 422, "ids"),
        ({"all": 1}, 422, "all"),
        ({"every": True}, 422, "every"),
        ([], 400, "body"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mark_that_breaks_a_rule_is_refused_and_changes_nothing(
    publisher: httpx.Client, user: User, body: Any, status: int, field: str
) -> None:
    send(publisher, user)
    with user.sees_no_change():
        problem_of(user.client.post("/v1/inbox/read", json=body), status, field)


# A user's tabs and devices


def test_other_tabs_get_the_ids_of_read_and_deleted_messages(publisher: httpx.Client, user: User) -> None:
    first, second = send(publisher, user), send(publisher, user)
    with user.listen() as tab, user.listen() as device:
        start = {stream.next("hello").id for stream in (tab, device)}
        mark(user, first)
        user.client.delete(f"/v1/inbox/{second}")
        for stream in (tab, device):
            read, deleted = stream.next("inbox"), stream.next("inbox")
            assert data_of(read) == {"read": [first], "deleted": [], "unread": 1}
            assert data_of(deleted) == {"read": [], "deleted": [second], "unread": 0}
            assert {read.id, deleted.id} == start  # that of hello: the parser keeps the last id


def test_marking_all_announces_the_ids_that_were_unread(publisher: httpx.Client, user: User) -> None:
    first, second, third = (send(publisher, user) for _ in range(3))
    mark(user, second)
    with user.listen() as tab:
        tab.next("hello")
        mark(user)
        change = data_of(tab.next("inbox"))
    assert (sorted(change["read"]), change["deleted"], change["unread"]) == (sorted([first, third]), [], 0)


def test_a_mark_that_changes_nothing_is_not_announced(publisher: httpx.Client, user: User) -> None:
    identity = send(publisher, user)
    mark(user, identity)
    with user.listen() as tab:
        tab.next("hello")
        mark(user, identity)
        mark(user)
        send(publisher, user, subject="after")
        assert data_of(tab.next("message"))["subject"] == "after"


def test_hello_counts_the_unread(publisher: httpx.Client, user: User) -> None:
    first, _ = send(publisher, user), send(publisher, user)
    mark(user, first)
    with user.listen() as stream:
        assert data_of(stream.next("hello"))["unread"] == 1


# Separation of users

HOSTILE = [
    "a",
    "a_b",
    "a:b",
    "{a}",
    "*",
    "?",
    "[a]",
    "a b",
    "A",
    "ä",
    "a\u0308",
    "中文",
    "😀",
    "a/b",
    "..",
    "x" * 128,
    "all",
]


def test_names_that_look_alike_or_like_patterns_are_different_users(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    word = unique("n")[:20]
    names = [word, *(f"{word}{suffix}"[-128:] for suffix in HOSTILE), f"user:{word}", f"{word}:", f"group:{word}"]
    users = [someone(name) for name in names]
    sent = {user.name: send(publisher, user, subject=f"for {user.name[:40]}") for user in users}
    tasks = {}
    for user in users:
        body = {"to": [user.channel], "name": "Import"}
        tasks[user.name] = publisher.post("/v1/tasks", json=body).json()["id"]
    for user in users:
        assert [message["id"] for message in user.messages()] == [sent[user.name]]
        assert [task["id"] for task in user.tasks()] == [tasks[user.name]]
    mark(users[0])
    assert [user.unread() for user in users] == [0] + [1] * (len(users) - 1)


def test_a_long_name_and_its_shortened_form_are_two_users(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    full = (unique("n") + "x" * 128)[:128]
    long, short = someone(full), someone(full[:-1])
    identity = send(publisher, long)
    assert [message["id"] for message in long.messages()] == [identity]
    assert short.messages() == []


@ONE_BROKER
@pytest.mark.parametrize("name", HOSTILE)
def test_a_stream_of_a_user_of_any_name_hears_only_that_user_s_events(
    publisher: httpx.Client, someone: Callable[..., User], name: str
) -> None:
    word = unique("n")[:20]
    user, other = someone(f"{word}{name}"[-128:]), someone(f"{word}{name}"[-127:] + "+")
    with user.listen() as stream, other.listen() as elsewhere:
        stream.next("hello")
        elsewhere.next("hello")
        identity = send(publisher, user)
        assert data_of(stream.next("message"))["id"] == identity
        after = send(publisher, other)
        assert data_of(elsewhere.next("message"))["id"] == after


def test_a_user_and_a_group_of_one_name_are_two(publisher: httpx.Client, someone: Callable[..., User]) -> None:
    name = unique()
    user, member = someone(name), someone(groups=[name])
    to_user, to_group = send(publisher, user), send(publisher, f"group:{name}")
    assert [message["id"] for message in user.messages()] == [to_user]
    assert [message["id"] for message in member.messages()] == [to_group]


def test_a_message_of_another_user_can_be_neither_marked_nor_deleted(
    publisher: httpx.Client, someone: Callable[..., User]
) -> None:
    ann, bob = someone(), someone()
    identity = send(publisher, ann)
    with ann.sees_no_change():
        mark(bob, identity)
        mark(bob)
        problem_of(bob.client.delete(f"/v1/inbox/{identity}"), 404, "id")
