"""Run by test_custom_user.py in a separate process, since a process cannot change its user model."""

from __future__ import annotations

import json
import logging
import pickle
import uuid

import django
import jwt
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

django.setup()
call_command("migrate", run_syncdb=True, verbosity=0)

from django.utils.translation import gettext_lazy  # noqa: E402  # Django first

from django_bridge import Event, Message, Progress, Task, progress  # noqa: E402
from django_bridge.history import messages_of, tasks_of  # noqa: E402
from django_bridge.log import NotifierHandler  # noqa: E402  # as above
from django_bridge.models import TaskRecord  # noqa: E402
from django_bridge.testing import assert_notified, outbox  # noqa: E402
from django_bridge.tokens import subscriber_token  # noqa: E402
from tests.django.people.models import Person  # noqa: E402

ann = Person.objects.create(mail="ann@example.org", language="de")
bob = Person.objects.create(mail="bob@example.org", language="ru")
sent = {"ann": str(ann.pk), "bob": str(bob.pk), "to": {}}
forms = {"user": ann, "key": ann.pk, "text": str(ann.pk), "hex": ann.pk.hex, "rows": Person.objects.order_by("mail")}
for name, to in forms.items():
    Message(from_user=bob.pk, to_users=to, subject="Hi").send()
    sent["to"][name] = outbox.messages[-1]["to"]
cid = Person.objects.create(pk=uuid.uuid4().hex, mail="cid@example.org", language="de")
Message(to_users=cid, subject="Hi").send()
sent["created with text"] = outbox.messages[-1]["to"] == [f"user:{Person.objects.get(mail=cid.mail).pk}"]
cid.delete()
sent["from"] = outbox.messages[-2]["from"]

outbox.clear()
Message(to_users=[ann.pk, str(bob.pk)], subject=gettext_lazy("Yes")).send()
sent["by subject"] = {message["subject"]: message["to"] for message in outbox.messages}

task = Task(from_user=ann, task_name="Import")
list(Progress(range(3), task=task))
Task.resume(task.id).end()
row = TaskRecord.objects.get()
sent["task"] = [row.user_id == ann.pk, row.to, row.status]
sent["resumed"] = [Task.resume(form).id == task.id for form in (task, task.id, uuid.UUID(task.id))]
sent["pickled"] = pickle.loads(pickle.dumps(task)).id == task.id
sent["history"] = [[row.pk for row in tasks_of(form)] == [task.id] for form in (ann, ann.pk, str(ann.pk))]
with override_settings(NOTIFIER={**settings.NOTIFIER, "KEEP_MESSAGES": True}):
    kept_id = Message(to_users=ann.pk, subject="Kept").send()
    sent["history"] += [[row.pk for row in messages_of(form)] == [kept_id] for form in (ann, ann.pk, str(ann.pk))]


@progress("Walk", user="user")
def walk(user: object, task: Task | None = None) -> None: ...


walk(ann.pk)
sent["decorated"] = TaskRecord.objects.get(name="Walk").user_id == ann.pk
for form in forms.values():
    Event(type="order.paid", to_users=form, data={}).send()
sent["events"] = [event["to"] for event in outbox.events]
with assert_notified(ann.pk, subject="Hi"):
    Message(to_users=ann, subject="Hi").send()
clicked = Task(from_user=ann.pk, task_name="Clicked")
clicked.begin()
outbox.request_cancel(clicked)
claims = jwt.decode(subscriber_token(ann.pk), settings.NOTIFIER["JWT_SECRET"], ["HS256"], audience="notifier:stream")
sent["token"] = [claims["sub"], claims["groups"]]

outbox.clear()
Person.objects.filter(pk=ann.pk).update(is_superuser=True)
handler = NotifierHandler()
logging.getLogger("shop").addHandler(handler)
logging.getLogger("shop").error("the till is stuck")
handler.flush()
sent["log"] = [message["to"] for message in outbox.messages]

outbox.clear()
with override_settings(NOTIFIER={**settings.NOTIFIER, "USER_ID": "tests.django.people.models.id_of"}):
    for to in (ann, ann.pk, Person.objects.order_by("mail")):
        Message(to_users=to, subject="Hi").send()
sent["own"] = [message["to"] for message in outbox.messages]
print(json.dumps(sent))
