"""The notifier in a Django project: messages to people, and tasks whose progress the browser shows.

    from django_bridge import ALL, Message, Progress, Task, group, progress

    Message(from_user=request.user, subject="Test", text="Loong text", to_users=user).send()

The way of the data: `message`, `task` (with `loop` and `decorator` in front of it) -> `publisher` -> the service's HTTP
API, or Redis with the service's own scripts. Values are checked by `notifier.rules`, at the call.

Nothing is loaded until it is used, so that `INSTALLED_APPS = ["django_bridge"]` and imports from any models module
work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django_bridge.loop.progress import Progress
    from django_bridge.message import Message
    from django_bridge.recipients import ALL, group
    from django_bridge.task.cancel import TaskCancelled
    from django_bridge.task.decorator import progress
    from django_bridge.task.task import Task

__all__ = ["ALL", "Message", "Progress", "Task", "TaskCancelled", "group", "progress"]

# No module here may be named like one of these: importing it would put the module in the name's place.
_HOMES: Final = {
    "ALL": "recipients",
    "Message": "message",
    "Progress": "loop.progress",
    "Task": "task.task",
    "TaskCancelled": "task.cancel",
    "group": "recipients",
    "progress": "task.decorator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
