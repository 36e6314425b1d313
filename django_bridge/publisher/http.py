"""The transport `http`: the service's publishing API.

One client per process, with persistent connections. Must not know: when a call is repeated.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import httpx

from django_bridge import tracing
from django_bridge.conf import Settings
from django_bridge.payload import EventBody, Payload, per_language, to_custom_event
from django_bridge.publisher.transport import Attempt, Seen, TaskAnswer, Unreachable
from django_bridge.tokens import channel_token
from notifier import errors
from notifier.json_text import to_json
from notifier.message import FIELDS, FIRST_VERSION
from notifier.output import Appended
from notifier.question import Answer, Question
from notifier.rules import MAX_BODY_BYTES
from notifier.task import CHANGES, Task

log = logging.getLogger("django_bridge")

_NOT_A_FIELD: Final = "is not a field of this request"
"""How the error for an unknown field ends in a service of version 0.1, whose problems have no `unknown_field`."""
_EXCLUDING: Final = ("except", "except_connection")
"""Without these a message would reach users that it leaves out."""
_FIRST_FIELDS: Final = {
    "POST": frozenset(field.name for field in FIELDS if field.since == FIRST_VERSION),
    "PATCH": CHANGES - {"url", "url_text"},
}
"""Fields of messages and of task changes that every version knows."""
MAX_PAGE: Final = 100
"""Messages of one page of an inbox."""
RETRYABLE: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_REFUSALS: Final = {
    leaf.status: leaf
    for leaf in (
        errors.InvalidInput,
        errors.MalformedBody,
        errors.PayloadTooLarge,
        errors.Unauthenticated,
        errors.NotAllowed,
        errors.NotFound,
        errors.Conflict,
    )
}


class HttpTransport:
    """Calls `POST` on `/v1/messages`, `/v1/events`, `/v1/tasks`, and `PATCH /v1/tasks/{id}`, with `Idempotency-Key`;
    and `PATCH` and `DELETE` on `/v1/messages/{id}`, without."""

    is_remote = True

    def __init__(self, settings: Settings) -> None:
        self._quiet = _QuietRequests(settings.url)
        self._client = httpx.Client(
            base_url=settings.url,
            headers={"Authorization": f"Bearer {settings.api_key}", "Content-Type": "application/json"},
        )

    def message(self, payload: Payload) -> Iterator[Attempt[object]]:
        for n, body in enumerate(body for translated in per_language(payload) for body in bodies(translated)):
            key = payload["id"] if n == 0 else f"{payload['id']}.{n}"
            yield partial(self._call_known, "POST", "/v1/messages", body, key)

    def retract(self, message_id: str, to: Sequence[str]) -> Iterator[Attempt[object]]:
        for body in bodies({"to": to}):
            yield partial(self._change, "DELETE", message_id, body)

    def correct(self, message_id: str, to: Sequence[str], changes: Mapping[str, Any]) -> Iterator[Attempt[object]]:
        for body in bodies({"to": to, **changes}):
            yield partial(self._change, "PATCH", message_id, body)

    def _change(self, method: str, message_id: str, body: bytes, within_s: float) -> object:
        """Change a message; no key is needed, since a repeat changes nothing."""
        try:
            self._request(method, f"/v1/messages/{message_id}", within_s, content=body)
        except errors.NotFound:
            log.info("message %s is no longer there: not corrected", message_id)
        return True

    def event(self, body: EventBody, key: str) -> Iterator[Attempt[object]]:
        to_custom_event(body)
        for n, part in enumerate(bodies(body)):
            yield partial(self._call, "POST", "/v1/events", part, f"{key}.{n}" if n else key)

    def create_task(self, task: Task, key: str) -> Attempt[TaskAnswer]:
        first = {"id": task.id, "to": task.to, "name": task.name, "state": task.state, "total": task.total}
        changes: dict[str, object] = {}
        if task.done:
            changes["done"] = task.done
        if task.status == "pending":
            changes["status"] = "pending"
        if task.ended:
            changes |= {"status": task.status, "error": task.error, "url": task.url, "url_text": task.url_text}

        def attempt(within_s: float) -> TaskAnswer:
            answer = self._call("POST", "/v1/tasks", to_json(first).encode(), key, within_s)
            return self.change_task(task.id, changes, f"{key}.1")(within_s) if changes else _task_answer(answer)

        return attempt

    def change_task(self, task_id: str, change: Mapping[str, object], key: str) -> Attempt[TaskAnswer]:
        body = to_json(change).encode()

        def attempt(within_s: float) -> TaskAnswer:
            return _task_answer(self._call_known("PATCH", f"/v1/tasks/{task_id}", body, key, within_s))

        return attempt

    def ask(self, task_id: str, question: Question, key: str) -> Attempt[object]:
        fields = question.public()
        body = to_json(
            {
                **{name: fields[name] for name in ("id", "text", "choices", "input") if fields[name] is not None},
                "default": question.default,
                "timeout_s": (question.expires_at_ms - question.asked_at_ms) // 1000,
            }
        ).encode()
        return partial(self._call, "POST", f"/v1/tasks/{task_id}/question", body, key)

    def answer(self, task_id: str, question_id: str) -> Attempt[Answer | None]:
        def attempt(within_s: float) -> Answer | None:
            params = {"question": question_id, "wait_s": 0}
            answer = self._request("GET", f"/v1/tasks/{task_id}/answer", within_s, params=params)
            if answer is None:
                return None
            by = answer["by"] or {"id": None, "name": None}
            return Answer(question_id, answer["value"], by["id"], by["name"], _ms(answer["answered_at"]))

        return attempt

    def append_output(self, task_id: str, text: str, key: str) -> Attempt[Appended]:
        body = to_json({"text": text}).encode()

        def attempt(within_s: float) -> Appended:
            answer = self._call("POST", f"/v1/tasks/{task_id}/output", body, key, within_s)
            try:
                return Appended(int(answer["n"]), int(answer["chars"]), bool(answer["cancel_requested"]))
            except (KeyError, TypeError, ValueError) as exc:
                raise errors.NotifierError("the answer is not that of output; is this the notifier's address?") from exc

        return attempt

    def kept_tasks(self, channel: str, ids: Sequence[str]) -> Attempt[Mapping[str, Task]]:
        def attempt(within_s: float) -> Mapping[str, Task]:
            headers = {"Authorization": f"Bearer {channel_token(channel)}"}
            answer = self._request("GET", "/v1/tasks", within_s, headers=headers)
            tasks = [_task(shown, channel) for shown in answer.get("tasks", ())]
            return {task.id: task for task in tasks if task.id in ids}

        return attempt

    def cursor(self, user: str) -> Attempt[str]:
        def attempt(within_s: float) -> str:
            timeouts = {"timeout": _Deadline(within_s)}
            answer = self._request("GET", "/v1/cursor", within_s, params={"user": user}, extensions=timeouts)
            return str(answer["cursor"])

        return attempt

    def read_states(self, user: str, ids: Sequence[str]) -> Attempt[Mapping[str, bool]]:
        def attempt(within_s: float) -> Mapping[str, bool]:
            headers = {"Authorization": f"Bearer {channel_token(f'user:{user}')}"}
            states: dict[str, bool] = {}
            page: dict[str, Any] = {"limit": MAX_PAGE}
            deadline = time.monotonic() + within_s
            while True:
                answer = self._request(
                    "GET", "/v1/inbox", max(0.1, deadline - time.monotonic()), headers=headers, params=page
                )
                states |= {shown["id"]: shown["read"] for shown in answer["messages"] if shown["id"] in ids}
                if not answer["more"] or len(states) == len(ids):
                    return states
                page["before"] = answer["messages"][-1]["id"]

        return attempt

    def presence(self, users: Sequence[str]) -> Attempt[Mapping[str, Seen]]:
        def attempt(within_s: float) -> Mapping[str, Seen]:
            body = to_json({"users": users}).encode()
            answer = self._request("POST", "/v1/presence", within_s, content=body)
            # A service of the version before does not know when.
            return {
                user: Seen(shown["online"], _ms(shown.get("last_seen_at"))) for user, shown in answer["users"].items()
            }

        return attempt

    def close(self) -> None:
        self._client.close()
        self._quiet.remove()

    def _call_known(self, method: str, path: str, body: bytes, key: str, within_s: float) -> Any:
        """A call; where the service is one version older and does not know a field, again without it."""
        deadline = time.monotonic() + within_s
        try:
            return self._call(method, path, body, key, within_s)
        except errors.InvalidInput as exc:
            fields = json.loads(body)
            is_unknown = "unknown_field" in exc.members or str(exc).endswith(_NOT_A_FIELD)
            is_needed = exc.field in _FIRST_FIELDS[method] or exc.field in _EXCLUDING
            if is_needed or exc.field not in fields or not is_unknown:
                raise
            log.warning("the service does not know the field %r: sent without it; upgrade the service", exc.field)
            del fields[exc.field]
        return self._call_known(method, path, to_json(fields).encode(), key, deadline - time.monotonic())

    def _call(self, method: str, path: str, body: bytes, key: str, within_s: float) -> Any:
        return self._request(method, path, within_s, content=body, headers={"Idempotency-Key": key})

    def _request(
        self, method: str, path: str, within_s: float, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Any:
        headers = {**(headers or {}), **tracing.headers()}
        # httpx applies the timeout to connect and read separately: with half each, both stay within the budget.
        try:
            answer = self._client.request(method, path, headers=headers, timeout=within_s / 2, **more)
        except httpx.HTTPError as exc:
            raise Unreachable(f"{type(exc).__name__}: {exc}") from exc
        except RuntimeError as exc:  # other settings closed the client while this thread was about to call
            if not self._client.is_closed:
                raise
            raise Unreachable(str(exc)) from exc
        if answer.status_code in (200, 204):
            return _parsed(answer) if answer.content else None
        raise _error(answer)


class _Deadline(dict[str, float]):
    """httpx' timeouts of a call: each step has what the earlier ones have left. httpcore asks with `get` at each."""

    def __init__(self, within_s: float) -> None:
        self._at = time.monotonic() + within_s

    def get(self, step: str, default: object = None) -> float:
        return max(0.001, self._at - time.monotonic())


class _QuietRequests(logging.Filter):
    """Drops httpx' line for each request to the service, unless the project has set the level of the logger `httpx`."""

    _logger: Final = logging.getLogger("httpx")

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._logger.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        is_own = isinstance(record.args, tuple) and any(str(arg).startswith(self._url) for arg in record.args)
        return not is_own or record.levelno > logging.INFO or self._logger.level != logging.NOTSET

    def remove(self) -> None:
        self._logger.removeFilter(self)


def bodies(payload: Payload | EventBody, max_bytes: int = MAX_BODY_BYTES) -> Iterator[bytes]:
    """The bodies of the POSTs of a message or an event: one, or several with part of the recipients each, to stay
    within `max_bytes`."""
    fields = to_json({name: value for name, value in payload.items() if name != "to"})
    room = max_bytes - len(fields.encode()) - len('"to":[],')
    chunks: list[list[str]] = [[]]
    used = 0
    for channel in payload["to"]:
        item = to_json(channel)
        size = len(item.encode()) + 1
        if chunks[-1] and used + size > room:
            chunks.append([])
            used = 0
        chunks[-1].append(item)
        used += size
    if len(chunks) > 1 and len(chunks[-1]) == 1:
        # The service drops duplicates for one stream only in calls with several recipients.
        chunks[-1].insert(0, chunks[-2].pop())
    for chunk in chunks:
        yield _body(fields, chunk)


def _body(fields: str, recipients: list[str]) -> bytes:
    more = "}" if fields == "{}" else f",{fields[1:]}"
    return f'{{"to":[{",".join(recipients)}]{more}'.encode()


def _task_answer(answer: Any) -> TaskAnswer:
    try:
        return TaskAnswer(
            int(answer["done"]),
            answer["total"],
            bool(answer.get("cancel_requested")),
            _ms(answer.get("updated_at")) or 0,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise errors.NotifierError("the answer is not a task; is this the notifier's address?") from exc


def _task(shown: Mapping[str, Any], channel: str) -> Task:
    fields = {name: shown[name] for name in ("id", "name", "status", "state", "done", "total", "error")}
    times = {f"{name}_ms": _ms(shown[name]) for name in ("started_at", "updated_at", "ended_at")}
    return Task(to=(channel,), **fields, **times, url=shown.get("url"), url_text=shown.get("url_text"))


def _ms(moment: str | None) -> Any:
    return None if moment is None else round(datetime.fromisoformat(moment).timestamp() * 1000)


def _parsed(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as exc:
        raise errors.NotifierError("the answer is not JSON; is this the notifier's address?") from exc


def _error(answer: httpx.Response) -> errors.NotifierError:
    problem = _problem(answer)
    shown = str(problem["detail"])[:500] if "detail" in problem else ascii(answer.text[:200])
    detail = f"{answer.status_code} {answer.reason_phrase}: {shown}"
    if answer.status_code in RETRYABLE:
        return Unreachable(detail, retry_after_s=_retry_after_s(answer))
    exc = _REFUSALS.get(answer.status_code, errors.NotifierError)(detail)
    exc.field = str(problem["field"]) if "field" in problem else None
    exc.members = problem
    return exc


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    """The members of problem+json; none where the answer is something else."""
    try:
        problem = json.loads(answer.content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _retry_after_s(answer: httpx.Response) -> float:
    """Seconds of `Retry-After`, else 0. The date form is ignored: the time budget ends before any such date."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0
