"""Signals for a project: what became of its messages. `manage.py notifier_escalate`, or the Celery task
`django_bridge.escalate`, sends them, for messages to users by name that are kept (`NOTIFIER["KEEP_MESSAGES"]`).

Both have the arguments `message` (the `MessageRecord`), `user_id` (the user's id on the wire) and `user` (the user;
None where there is none, or `NOTIFIER["USER_ID"]` makes the id). Receivers run in the transaction that notes the signal
as sent: one that raises undoes it, and gets the signal again in the next run.
"""

from __future__ import annotations

from django.dispatch import Signal

message_read = Signal()
"""The user has read the message."""

message_unread_for = Signal()
"""The message has been unread, and its reader offline, for the time that the command was given."""
