"""The backend of `/demo`, only with `--dev`: two users who log in without a password, and a task to watch.

It does what an application does for its own users, by the same calls: issues their tokens, and publishes in their name.
Must not know: streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from notifier import rules, task
from notifier.api.bodies import Strict
from notifier.api.http import json_response, parse, read_body, subscriber
from notifier.auth import Subscriber, subscriber_token
from notifier.broker import Broker
from notifier.broker.values import TaskChange
from notifier.errors import Conflict, InvalidInput, NotAllowed, NotifierError
from notifier.message import message_event

USERS: Final = {"ann": "Ann", "bob": "Bob"}
TOKEN_TTL_S: Final = 3600
MAX_RUNNING: Final = 20
"""Demo tasks that run at the same time."""

router = APIRouter(prefix="/demo", include_in_schema=False)


class Login(Strict):
    user: str


class DemoMessage(Strict):
    to: str
    subject: str
    text: str = ""
    level: str = "info"


class DemoTask(Strict):
    name: str = "Report"
    seconds: float = Field(8, ge=0.5, le=120)


@router.post("/login")
async def login(request: Request) -> Response:
    """A token for a demo user, and a shell command that sends this user a message."""
    body = parse(Login, await read_body(request))
    if body.user not in USERS:
        raise InvalidInput(f"must be one of {', '.join(USERS)}, not {rules.shown(body.user)}", field="user")
    settings = request.app.state.settings
    if not settings.jwt_secret:
        raise NotAllowed("the demo signs tokens with NOTIFIER_JWT_SECRET, which is not set")
    token = subscriber_token(settings.jwt_secrets[0], body.user, ttl_s=TOKEN_TTL_S, name=USERS[body.user])
    base = str(request.base_url).rstrip("/")
    curl = (
        f"curl -X POST {base}/v1/messages -H 'Authorization: Bearer {settings.api_keys[0]!s}' "
        f"-H 'Content-Type: application/json' "
        f"""-d '{{"to":["user:{body.user}"],"subject":"Hello from the shell"}}'"""
    )
    user = {"id": body.user, "name": USERS[body.user]}
    return json_response({"user": user, "token": token, "expires_in": TOKEN_TTL_S, "curl": curl})


@router.post("/messages")
async def send(request: Request) -> Response:
    """Send a message from one demo user to the other."""
    who = _demo_user(request)
    body = parse(DemoMessage, await read_body(request))
    if body.to not in USERS:
        raise InvalidInput(f"must be one of {', '.join(USERS)}, not {rules.shown(body.to)}", field="to")
    event = message_event(
        {
            "to": [f"user:{body.to}"],
            "from": {"id": who.user, "name": USERS[who.user]},
            "subject": body.subject,
            "text": body.text,
            "level": body.level,
        }
    )
    receipt = await request.app.state.broker.publish(event)
    return json_response({"id": event.message_id, "cursor": receipt.cursor, "watched": receipt.watched})


@router.post("/tasks")
async def begin(request: Request) -> Response:
    """Begin a task that counts to a hundred within `seconds`."""
    who = _demo_user(request)
    body = parse(DemoTask, await read_body(request))
    running: set[asyncio.Task[None]] = request.app.state.demo_tasks
    if len(running) >= MAX_RUNNING:
        raise Conflict(f"{MAX_RUNNING} demo tasks are running; wait for one to end")
    broker: Broker = request.app.state.broker
    begun = task.begin(
        to=[f"user:{who.user}"], name=body.name, state="Collecting the rows", total=100, task_id=None, now_ms=_now_ms()
    )
    await broker.create_task(begun)
    work = asyncio.create_task(_work(broker, begun.id, body.seconds), name=f"demo-{begun.id}")
    running.add(work)
    work.add_done_callback(running.discard)
    return json_response(begun.for_publisher())


STATES: Final = ("Collecting the rows", "Adding them up", "Drawing the charts", "Writing the file")


async def _work(broker: Broker, task_id: str, seconds: float) -> None:
    with contextlib.suppress(NotifierError):
        steps = 25
        for step in range(1, steps + 1):
            await asyncio.sleep(seconds / steps)
            done = step * 100 // steps
            change: dict[str, object] = {"done": done, "state": STATES[min(3, done // 25)]}
            changed = await broker.change_task(task_id, _step(change))
            if changed.cancel_requested:
                await broker.change_task(task_id, _step({"status": "cancelled", "state": "Stopped on your request"}))
                return
        await broker.change_task(task_id, _step({"status": "succeeded", "state": "The report is ready"}))


def _step(change: dict[str, object]) -> TaskChange:
    return lambda stored: stored.changed(change, now_ms=_now_ms())


def _demo_user(request: Request) -> Subscriber:
    who = subscriber(request)
    if who.user not in USERS:
        raise NotAllowed("the demo accepts only its own users")
    return who


def _now_ms() -> int:
    return int(time.time() * 1000)
