"""Two long jobs over all products: one for a Celery worker, one for a thread of the web process."""

import time

from celery import shared_task
from django.conf import settings
from django.http import HttpRequest

from django_bridge import Message, Progress, Task, TaskCancelled, progress
from shop.models import Product


@shared_task
def recount_stock(task_id: str, user_id: int) -> None:
    """Goes on with a task that the view began, so that the user saw it at once, while the queue was still full."""
    task = Task.resume(task_id)
    task.cancelled_text = "Stopped on your request"
    pieces = 0
    try:
        task.set_state("Counting the pieces")
        for product in Progress(Product.objects.all(), parts=25, task=task):
            pieces += product.stock
            _pretend_to_work()
    except TaskCancelled:
        return
    except Exception as fault:
        task.fail(fault)
        raise
    task.end(f"{pieces} pieces")
    Message(
        to_users=user_id,
        subject="The stock is recounted",
        text=f"There are {pieces} pieces on the shelves.",
        level="success",
    ).send()


@progress("Write the price list", "Reading the prices", "The price list is ready", cancelled="Stopped on your request")
def write_price_list(request: HttpRequest, task: Task | None = None) -> list[str]:
    lines = []
    for product in Progress(Product.objects.order_by("name"), parts=25, task=task):
        lines.append(f"{product.name}: {product.price}")
        _pretend_to_work()
    return lines


def _pretend_to_work() -> None:
    time.sleep(settings.JOB_SECONDS / 100)
