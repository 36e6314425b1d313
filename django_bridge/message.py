"""`Message`: one notification for people.

Builds the payload by the rules of `notifier.event` and gives it to `sending`. Must not know: transports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from asgiref.sync import sync_to_async

from django_bridge import celery
from django_bridge.corrections import ARGUMENTS, argument_names, correction, moment, recipients, retraction
from django_bridge.event_loop import outside_loop
from django_bridge.languages import by_language, override
from django_bridge.payload import Payload, per_language, to_event
from django_bridge.recipients import channels, sender
from django_bridge.sending import send_payload
from django_bridge.texts import is_lazy, rendered
from notifier import event, rules
from notifier.errors import InvalidInput
from notifier.message import BY_NAME

MAX_KEY_CHARS: Final = 128

_CONTENT: Final = tuple(name for name in BY_NAME if name not in (*ARGUMENTS, "id", "expires_at"))
"""The fields that are attributes of `Message` under their own name and may hold lazy translations."""


class Message:
    """A notification from one user, or from the system, to others.

        message = Message(from_user=user, subject="Test", text="Loong text", to_users=user)
        message.send()

    - `from_user`: a user, its primary key, or None for the system.
    - `to_users`: a user, a primary key, a Django `Group`, `group("staff")`, `ALL`, a QuerySet, or any iterable of
      these. A QuerySet is read when the message is sent.
    - `send_datetime`: the time that browsers show; a naive value is in Django's current time zone. Omitted: now.
    - `level`: `debug`, `info`, `success`, `warning` or `error`. `url`: the target of a click: http, https or relative.
    - `icon`: the picture shown: the URL of one, or one of the names in `notifier.rules.ICONS`.
    - `actions`: at most 3 buttons, `{"text": "Approve", "url": "/orders/7/approve/", "method": "POST"}`. GET, the
      default, is a link; POST is a call to a path of the page's own site, with its CSRF token.
    - `data`: a JSON object for your own use. `expires_at`: after this time the message is neither replayed nor listed.
    - `key`: a later message with the same key to the same recipient replaces the earlier one, also in the inbox. It is
      also sent as `data.key`, for pages of an older client.

    Lazy translations become text when the message is sent: in each recipient's language where
    `NOTIFIER["USER_LANGUAGE"]` gives one, else in the active language.
    """

    def __init__(
        self,
        *,
        to_users: Any,
        subject: Any,
        text: Any = "",
        from_user: Any = None,
        send_datetime: datetime | None = None,
        level: str = "info",
        url: Any = None,
        icon: str | None = None,
        actions: Sequence[Mapping[str, Any]] | None = None,
        data: Mapping[str, Any] | None = None,
        expires_at: datetime | None = None,
        key: str | None = None,
    ) -> None:
        self.to_users = to_users
        self.subject = subject
        self.text = text
        self.from_user = from_user
        self.send_datetime = send_datetime
        self.level = level
        self.url = url
        self.icon = icon
        self.actions = actions
        self.data = data
        self.expires_at = expires_at
        self.key = key
        self._sent: Payload | None = None

    @property
    def id(self) -> str | None:
        """The id under which the message was sent last; None before that."""
        return None if self._sent is None else str(self._sent["id"])

    @property
    def send(self) -> Callable[[], str]:
        """`message.send()` sends the message and returns its id; every call sends a new message.

        Inside `transaction.atomic()` the message is sent on commit, and not at all after a rollback; the id is returned
        at once. Raises `InvalidInput` or `PayloadTooLarge` for values that break a rule, before anything is sent. An
        unreachable service raises nothing (see `NOTIFIER["RAISE"]`). With `NOTIFIER["OUTBOX"]` the message is first
        written as a row of the same transaction, and stays there until it is delivered.

        Where Celery is installed, this is the immutable signature of a shared task that carries the payload, so
        `link=subtask(message.send)` is valid too; calling a signature runs its task in this process. Recipients and
        language are then resolved when `message.send` is read, the time when the message is sent.

        In a running event loop the call blocks the loop until the row is written or the service has answered:
        `await message.asend()` does not.
        """
        task = celery.sending_task()
        if task is None:
            return self._send
        self._sent = self.payload()
        signature: Callable[[], str] = task.si(self._sent)
        return signature

    async def asend(self) -> str:
        """As `send()`, for asynchronous code: waits for the database and the service in a thread."""
        return await sync_to_async(self._send)()

    @outside_loop
    def payload(self) -> Payload:
        """The checked payload, under a new id. Raises `InvalidInput` or `PayloadTooLarge`."""
        to = self._by_language()
        first, *others = [self._in(language, to[language]) for language in to] or [self._in("", [])]
        payload: Payload = {
            "id": event.new_id(),
            **first,
            "from": sender(self.from_user),
            "sent_at": moment(self.send_datetime, "send_datetime"),
            "expires_at": moment(self.expires_at, "expires_at"),
        }
        if others:
            payload["also"] = others
        with argument_names():
            for translated in per_language(payload):
                to_event(translated)
        return payload

    def _by_language(self) -> Mapping[str, list[str]]:
        if is_lazy(self._content()):
            return by_language(self.to_users, "to_users")
        return {"": list(channels(self.to_users))}

    def _content(self) -> Payload:
        """The fields that may hold lazy translations, as they were given."""
        data = {} if self.data is None else self.data
        content = {name: getattr(self, name) for name in _CONTENT}
        content["data"] = data if self.key is None else {**data, "key": _key(self.key)}
        return {name: value for name, value in content.items() if not BY_NAME[name].may_be_left_out(value)}

    def _in(self, language: str, to: list[str]) -> Payload:
        """The content in one language, and its recipients."""
        with override(language):
            return {"to": list(rules.recipients(to, "to_users")), **rendered(self._content())}

    @outside_loop
    def _send(self) -> str:
        self._sent = self.payload()
        return send_payload(self._sent)

    def retract(self) -> None:
        """Retract the message as it was sent last: it leaves the history, the inboxes and the unread counts, and pages
        that show it. On commit, and through the outbox, as `send()`; the kept message (`KEEP_MESSAGES`) is removed.

        Raises `InvalidInput` if this object has sent no message: see `retract_by_id`.
        """
        if self._sent is None:
            raise InvalidInput("was not sent by this object: use Message.retract_by_id(id)", field="message")
        to = [channel for translated in per_language(self._sent) for channel in translated["to"]]
        send_payload(retraction(self._sent["id"], to))

    async def aretract(self) -> None:
        """As `retract()`, for asynchronous code."""
        await sync_to_async(self.retract)()

    @staticmethod
    @outside_loop
    def retract_by_id(message_id: str, *, to_users: Any = None) -> None:
        """As `retract()`, by the id that `send()` returned. `to_users`: the recipients that lose it; by default all,
        which are known with `KEEP_MESSAGES`. Raises `InvalidInput`."""
        send_payload(retraction(message_id, recipients(message_id, to_users)))

    @staticmethod
    async def aretract_by_id(message_id: str, *, to_users: Any = None) -> None:
        """As `retract_by_id`, for asynchronous code."""
        await sync_to_async(Message.retract_by_id)(message_id, to_users=to_users)

    @staticmethod
    @outside_loop
    def correct(message_id: str, *, to_users: Any = None, **changes: Any) -> None:
        """Change a sent message where it stands, in history and inboxes: read marks and order stay, and open pages show
        it anew. On commit, and through the outbox, as `send()`; the kept message (`KEEP_MESSAGES`) follows.

            Message.correct(message_id, to_users=user, text="The train leaves at 9:40.")

        - `changes`: any of `subject`, `text`, `from_user`, `send_datetime`, `level`, `url`, `icon`, `actions` and
          `data`, as in `Message`; what is left out stays.
        - `to_users`: as in `retract_by_id`.

        A message that is no longer there stays so. Raises `InvalidInput` or `PayloadTooLarge`.
        """
        send_payload(correction(message_id, to_users, changes))

    @staticmethod
    async def acorrect(message_id: str, *, to_users: Any = None, **changes: Any) -> None:
        """As `correct`, for asynchronous code."""
        await sync_to_async(Message.correct)(message_id, to_users=to_users, **changes)


def _key(key: object) -> str:
    return rules.text(key, "key", max_chars=MAX_KEY_CHARS, empty=False)
