"""Two long jobs over all products: one for a Celery worker, one for a thread of the web process."""

import time

from celery import shared_task
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from django_bridge import Message, Progress, Task, TaskCancelled, progress
from shop.models import Product


@shared_task
def recount_stock(task_id: str, user_id: int) -> None:
    """Continue a task that the view began, so the user sees it at once, even if the queue is long."""
    task = Task.resume(task_id)
    task.cancelled_text = "Stopped on your request"
    pieces = 0
    try:
        task.set_state("Counting the pieces")
        for product in Progress(Product.objects.all(), parts=25, task=task):
            pieces += product.stock
            _simulate_work()
    except TaskCancelled:
        return
    except Exception as exc:
        task.fail(exc)
        raise
    task.end(f"{pieces} pieces")
    Message(
        to_users=user_id,
        subject="The stock is recounted",
        text=f"There are {pieces} pieces on the shelves.",
        level="success",
    ).send()


@progress(
    "Write the price list",
    "Reading the prices",
    "The price list is ready",
    cancelled="Stopped on your request",
    result=lambda _: (reverse("prices"), "Download"),
)
def write_price_list(request: HttpRequest, task: Task | None = None) -> list[str]:
    lines = []
    for product in Progress(Product.objects.order_by("name"), parts=25, task=task):
        lines.append(f"{product.name}: {product.price}")
        _simulate_work()
    return lines


def _simulate_work() -> None:
    time.sleep(settings.JOB_SECONDS / 100)
