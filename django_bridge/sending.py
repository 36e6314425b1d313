"""Sending a payload: kept in the history, written to the outbox or published, once the open transactions are committed.

Must not know: how messages are made, Celery, transports.
"""

from __future__ import annotations

import logging
from functools import partial

from django_bridge import publisher
from django_bridge.commit import after_commit
from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.payload import Payload, expired, per_language

log = logging.getLogger("django_bridge")


@outside_loop
def send_payload(payload: Payload) -> str:
    """Send a payload on commit, through the outbox where `NOTIFIER["OUTBOX"]` is set. Returns the message's id."""
    configured = settings()
    # history and outbox load the models: too early where a models module imports `Message`.
    if configured.keep_messages:
        from django_bridge import history

        everybody = [channel for translated in per_language(payload) for channel in translated["to"]]
        history.keep({**payload, "to": everybody})
    if configured.outbox:
        from django_bridge import outbox

        outbox.keep(payload)
    else:
        after_commit(partial(_publish, payload))
    return str(payload["id"])


def _publish(payload: Payload) -> None:
    if expired(payload):
        log.info("message %s expired before it was sent", payload["id"])
    else:
        publisher.current().send(payload)
