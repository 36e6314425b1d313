"""Rows of the outbox for tests: written as by another process, and read."""

from __future__ import annotations

import json
from typing import Any

from django.db import transaction
from django.utils import timezone

from django_bridge import Message, outbox
from django_bridge.models import OutboxMessage
from django_bridge.testing import outbox as sent
from tests.django.answering import AnsweringService

MEMORY = {"TRANSPORT": "memory", "OUTBOX": True}


def put(*subjects: str, **values: Any) -> list[str]:
    """Write messages as a process that ends before it delivers them."""
    with transaction.atomic():
        ids = [Message(to_users=1, subject=subject, **values).send() for subject in subjects]
        transaction.get_connection().run_on_commit.clear()
    OutboxMessage.objects.filter(message_id__in=ids).update(
        state="waiting", due_at=timezone.now(), origin=outbox._OutboxProcess().origin
    )
    return ids


def waiting() -> list[str]:
    payloads = [json.loads(row.payload) for row in OutboxMessage.objects.all()]
    return [payload["subject"] for payload in payloads if "subject" in payload]


def subjects() -> list[str]:
    return [message["subject"] for message in sent.messages]


def requested(server: AnsweringService) -> list[str]:
    return [body["subject"] for _, _, _, body in server.requests]
