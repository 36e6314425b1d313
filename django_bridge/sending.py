"""Sending the payload of a message, its retraction or correction, or an event: followed in the history, written to the
outbox or published, once the open transactions are committed.

Must not know: how messages are made, Celery, transports.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from django.db import Error, connections, transaction

from django_bridge import background, publisher
from django_bridge.commit import after_commit, open_transactions
from django_bridge.conf import settings
from django_bridge.event_loop import outside_loop
from django_bridge.payload import Payload, expired, is_event, named
from django_bridge.tracing import traced

log = logging.getLogger("django_bridge")


@outside_loop
def send_payload(payload: Payload, using: str | None = None) -> str:
    """Send a payload on commit, through the outbox where `NOTIFIER["OUTBOX"]` is set. Returns its id. `using`: the
    database whose commit it announces; by default all in which a transaction is open."""
    configured, payload = settings(), traced(payload)
    is_kept = configured.keep_messages and not is_event(payload)
    if is_kept and configured.outbox and _stored_at_once(payload):
        return str(payload["id"])
    # history and outbox load the models: too early where a models module imports `Message`.
    if is_kept:
        from django_bridge import history

        history.keep(payload)
    if configured.outbox:
        from django_bridge import outbox

        outbox.keep(payload, using)
    else:
        deliver_on_commit(partial(_publish, payload), named(payload), using)
    return str(payload["id"])


def _stored_at_once(payload: Payload) -> bool:
    """Keep a message and write its row of the outbox in one transaction, which costs one commit instead of two.

    False, and nothing is stored, where the caller has a transaction, where the tables are in two databases, and where
    either fails: they are then written one after the other, so that a message that cannot be kept is sent.
    """
    from django_bridge import history, outbox

    alias = history.database()
    if outbox.database() != alias or open_transactions():
        return False
    try:
        if not connections[alias].get_autocommit():
            return False
        with transaction.atomic(using=alias):
            history.write(payload)
            outbox.keep(payload)
    except Error:
        return False
    return True


def deliver_on_commit(action: Callable[[], object], what: str, using: str | None = None) -> None:
    """Run a call to the service on commit; with `DELIVERY="background"` in the delivering thread.

    Without an outbox, what waits there is lost with the process; what finds the queue full is logged and dropped.
    """
    if publisher.delivers_in_background():
        after_commit(partial(_queue, action, what), using)
    else:
        after_commit(action, using)


def _queue(action: Callable[[], object], what: str) -> None:
    if not background.current().put(action):
        publisher.current().dropped(what)


def _publish(payload: Payload) -> None:
    if expired(payload):
        log.info("message %s expired before it was sent", payload["id"])
    else:
        publisher.current().send(payload)
