"""From a running event loop: every call works, and the awaitable forms block nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.messages import SUCCESS
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.template import Context, Template
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from django_bridge import Message, Progress, Task, group, history, progress
from django_bridge.models import MessageRecord, OutboxMessage, TaskRecord
from django_bridge.testing import outbox
from django_bridge.tokens import AUDIENCE, subscriber_token
from tests.django.outbox_rows import MEMORY, subjects, waiting
from tests.django.sample.models import SimpleModel
from tests.support import JWT_SECRET


class Slow:
    """A type of the project with a query behind its length and its items."""

    def __len__(self) -> int:
        return SimpleModel.objects.count()

    def __iter__(self) -> Iterator[str]:
        for row in SimpleModel.objects.order_by("pk"):
            yield row.title


def titles() -> Iterator[str]:
    yield from Slow()


async def arriving() -> AsyncIterator[str]:
    async for row in SimpleModel.objects.order_by("pk"):
        yield row.title


# Progress


@pytest.mark.parametrize(
    ("iterable", "total"),
    [
        (lambda: [f"row {n}" for n in range(20)], None),
        (lambda: tuple(f"row {n}" for n in range(20)), None),
        (lambda: {f"row {n}": n for n in range(20)}, None),
        (lambda: {f"row {n}": n for n in range(20)}.keys(), None),
        (lambda: SimpleModel.objects.order_by("pk").values_list("title", flat=True), None),
        (Slow, None),
        (titles, 20),
        (arriving, 20),
    ],
    ids=["list", "tuple", "dict", "keys", "queryset", "own type", "generator", "async generator"],
)
async def test_an_async_for_takes_any_iterable(iterable: Any, total: int | None, user: User, rows: int) -> None:
    task = Task(from_user=user, task_name="Walk")
    seen: list[int] = []
    loop = Progress(iterable(), parts=4, total=total, task=task, callback=lambda p: seen.append(p.done))
    assert [title async for title in loop] == [f"row {n}" for n in range(20)]
    assert seen == [5, 10, 15, 20]
    assert (await TaskRecord.objects.aget()).done == 20


async def test_a_queryset_in_an_async_for_costs_one_count_and_is_read_in_chunks(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_bridge.loop.arguments.CHUNK", 10)
    monkeypatch.setattr("django_bridge.loop.progress.CHUNK", 10)
    rows_of = SimpleModel.objects.order_by("pk")
    assert len([row async for row in Progress(rows_of, parts=5)]) == rows
    assert rows_of._result_cache is None


async def test_a_generator_is_read_no_further_than_the_loop_has_come_and_does_not_block_the_loop() -> None:
    read: list[int] = []
    may_go_on = threading.Event()

    def numbers() -> Iterator[int]:
        for n in range(5):
            read.append(n)
            yield n
            if n == 2:
                assert may_go_on.wait(10)

    async def lets_it_go_on() -> None:
        may_go_on.set()

    walked = []
    async for n in Progress(numbers(), total=5):
        walked.append(n)
        assert read == walked
        if n == 2:
            other = asyncio.create_task(lets_it_go_on())  # runs while the generator waits
    await other
    assert walked == [0, 1, 2, 3, 4]


async def test_an_exception_of_a_generator_leaves_a_truthful_count() -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise LookupError("row 3")

    walk = Progress(broken(), total=5)
    with pytest.raises(LookupError, match="row 3"):
        async for _ in walk:
            pass


# Messages


@pytest.fixture
def kept(outbox_process: None) -> Iterator[None]:
    with override_settings(NOTIFIER={**MEMORY, "KEEP_MESSAGES": True, "JWT_SECRET": JWT_SECRET}):
        yield


async def test_a_message_can_be_awaited_with_outbox_and_history(kept: None, user: User) -> None:
    message_id = await Message(to_users=User.objects.all(), from_user=user.pk, subject="Paid").asend()
    assert [message["id"] for message in outbox.messages] == [message_id]
    assert await MessageRecord.objects.filter(pk=message_id).aexists()
    assert not await OutboxMessage.objects.aexists()


async def test_a_synchronous_send_works_from_a_running_loop(kept: None, user: User) -> None:
    message_id = Message(to_users=User.objects.all(), from_user=user.pk, subject="Paid").send()
    assert [message["id"] for message in outbox.messages] == [message_id]
    assert await MessageRecord.objects.filter(pk=message_id).aexists()


async def test_without_a_service_an_awaited_message_stays_in_the_outbox(
    outbox_process: None, no_service: dict[str, Any]
) -> None:
    await Message(to_users=1, subject="Paid").asend()
    assert await sync_to_async(waiting)() == ["Paid"]
    assert subjects() == []


# Tasks


def lazily(user: User) -> Any:
    """As `request.user`: a query on first use."""
    return SimpleLazyObject(lambda: User.objects.get(pk=user.pk))


async def test_every_synchronous_call_of_a_task_works_from_a_running_loop(user: User) -> None:
    with Task(from_user=lazily(user), task_name="Import") as task:
        task.set_state("half", total=4)
        task.advance()
        assert task.advance_once("key", 1)
        for _ in Progress(range(2), task=task):
            pass
        task.raise_if_cancelled()
        task.wait("again")
        resumed = Task.resume(task.id)
        resumed.begin()
        with resumed.share("part") as share:
            share.advance()
    failed, cancelled = (Task(from_user=lazily(user), task_name="Import") for _ in range(2))
    failed.fail("no")
    cancelled.cancelled()
    assert [row.status async for row in TaskRecord.objects.order_by("started_at")] == [
        "succeeded",
        "failed",
        "cancelled",
    ]


async def test_a_decorated_function_works_from_a_running_loop(user: User) -> None:
    @progress("Import")
    def run(request: Any, task: Task | None = None) -> None:
        assert task is not None
        task.set_state("half")

    @progress("Import")
    async def arun(request: Any, task: Task | None = None) -> None:
        async for _ in Progress([1, 2], task=task):
            pass

    request: Any = RequestFactory().get("/")
    request.user = lazily(user)
    run(request)
    await arun(request)
    assert [row.status async for row in TaskRecord.objects.all()] == ["succeeded"] * 2


async def test_a_task_is_resumed_by_an_awaited_call(user: User) -> None:
    task = Task(from_user=user, task_name="Import")
    await task.abegin()
    await (await Task.aresume(task.id)).aend()
    assert (await TaskRecord.objects.aget()).status == "succeeded"


# Pages


@pytest.mark.parametrize(
    ("tag", "shows"),
    [
        ("{% notifier %}", "notifier-config"),
        ("{% live row %}", "data-live-grant"),
        ("{% live rows %}", "data-live-grant"),
        ("{% live_rows rows %}", "data-live-grant"),
        ("{% presence row %}", "<notifier-presence"),
    ],
)
async def test_a_page_is_rendered_in_a_running_loop(user: User, rows: int, tag: str, shows: str) -> None:
    await user.groups.aadd(await Group.objects.acreate(name="staff"))
    request = RequestFactory().get("/")
    page = Template("{% load notifier %}" + tag)
    for name, shown in ((lazily(user), True), (SimpleLazyObject(AnonymousUser), False)):
        request.user = name  # type: ignore[assignment]  # as AuthenticationMiddleware does
        context = {"request": request, "row": await SimpleModel.objects.afirst(), "rows": SimpleModel.objects.all()}
        assert (shows in page.render(Context(context))) is shown


async def test_messages_of_the_session_become_toasts_in_a_running_loop(user: User) -> None:
    request: Any = RequestFactory().get("/")
    request.session = SessionStore(await sync_to_async(session_with)("Saved"))
    request._messages = SessionStorage(request)
    page = Template("{% load notifier %}{% notifier_messages %}")
    assert ">Saved</notifier-message>" in page.render(Context({"request": request}))


def session_with(text: str) -> str:
    """The key of a stored session with a message."""
    request: Any = RequestFactory().get("/")
    request.session = SessionStore()
    messages = SessionStorage(request)
    messages.add(SUCCESS, text)
    messages.update(HttpResponse())
    request.session.save()
    return str(request.session.session_key)


@pytest.mark.parametrize("form", [lambda user: user, lambda user: user.pk, lazily], ids=["user", "key", "lazy user"])
async def test_a_user_is_read_in_a_running_loop(kept: None, user: User, form: Callable[[User], Any]) -> None:
    await user.groups.aadd(await Group.objects.acreate(name="staff"))
    claims = jwt.decode(subscriber_token(form(user)), JWT_SECRET, ["HS256"], audience=AUDIENCE)
    assert (claims["sub"], claims["groups"]) == (str(user.pk), ["staff"])
    message_id = await Message(to_users=group("staff"), subject="Paid").asend()
    assert [row.pk async for row in history.messages_of(form(user))] == [message_id]
    await Task(from_user=user, task_name="Import").abegin()
    assert [row.name async for row in history.tasks_of(form(user))] == ["Import"]
