"""The notifier for Django projects: messages to users, and tasks whose progress the browser shows.

    from django_bridge import ALL, Message, Progress, Task, group, progress

    Message(from_user=request.user, subject="Test", text="Loong text", to_users=user).send()

Data flow: `message` -> `sending` -> `publisher`, and `loop`, `task.decorator` -> `task` -> `publisher`; from there over
the service's HTTP API, or to Redis with the service's own scripts. `notifier.rules` checks all values at the call.

Public names are loaded when first used, so that `INSTALLED_APPS = ["django_bridge"]` and imports from models modules
work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django_bridge.admin_action import progress_action
    from django_bridge.event import Event
    from django_bridge.grants import live_permission
    from django_bridge.job_page import progress_page
    from django_bridge.live import changed
    from django_bridge.live_signals import live_model
    from django_bridge.loop.current import current_task
    from django_bridge.loop.progress import Progress
    from django_bridge.message import Message
    from django_bridge.presence_admin import PresenceAdmin
    from django_bridge.recipients import ALL, group, topic
    from django_bridge.task.cancel import TaskCancelled
    from django_bridge.task.decorator import progress
    from django_bridge.task.task import Task

__all__ = [
    "ALL",
    "Event",
    "Message",
    "PresenceAdmin",
    "Progress",
    "Task",
    "TaskCancelled",
    "changed",
    "current_task",
    "group",
    "live_model",
    "live_permission",
    "progress",
    "progress_action",
    "progress_page",
    "topic",
]

# No module of this package may have one of these names: importing it would replace the name by the module.
_HOMES: Final = {
    "ALL": "recipients",
    "Event": "event",
    "Message": "message",
    "PresenceAdmin": "presence_admin",
    "Progress": "loop.progress",
    "Task": "task.task",
    "TaskCancelled": "task.cancel",
    "changed": "live",
    "current_task": "loop.current",
    "group": "recipients",
    "live_model": "live_signals",
    "live_permission": "grants",
    "progress": "task.decorator",
    "progress_action": "admin_action",
    "progress_page": "job_page",
    "topic": "recipients",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
