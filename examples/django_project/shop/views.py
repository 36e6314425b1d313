import csv
import threading
from collections.abc import Callable
from contextlib import suppress

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connections, transaction
from django.db.models import Max
from django.forms import modelform_factory
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from django_bridge import Message, Task
from shop import jobs
from shop.models import Order, Product, orders_of

PRODUCTS = 20
"""Those that the form offers."""
TRIES = 10
"""Of an order to take the next number, among others that do."""
OrderForm = modelform_factory(Order, fields=("product", "pieces"))


@login_required
def home(request: HttpRequest) -> HttpResponse:
    orders = orders_of(request.user)
    columns = [(label, [order for order in orders if order.status == value]) for value, label in Order.Status.choices]
    shown = {
        "other": _other(request.user),
        "board": ["orders", *orders],
        "columns": columns,
        "products": Product.objects.order_by("name")[:PRODUCTS],
    }
    return render(request, "shop/home.html", shown)


@login_required
@require_POST
def place_order(request: HttpRequest) -> HttpResponse:
    """Saving is all here, too: `Order.save` tells the pages that show the list."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return HttpResponse(status=400)
    form.instance.customer = request.user
    for _ in range(TRIES):
        last = Order.objects.aggregate(last=Max("number"))["last"] or 1000
        form.instance.number = last + 1
        with suppress(IntegrityError), transaction.atomic():  # unless another order took the number
            form.save()
            return HttpResponse(status=204)
    return HttpResponse(status=503)


@login_required
@require_POST
def advance_order(request: HttpRequest, pk: int) -> HttpResponse:
    """Saving is all: `@live_model` tells the pages that show the order."""
    if not request.user.is_staff:
        raise PermissionDenied
    get_object_or_404(Order, pk=pk).advance(request.POST.get("step", ""))
    return HttpResponse(status=204)


@login_required
def price_list(request: HttpRequest) -> HttpResponse:
    """What the link at the end of the export leads to."""
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="prices.csv"'
    csv.writer(answer).writerows(Product.objects.order_by("name").values_list("name", "price"))
    return answer


@login_required
@require_POST
def start_recount(request: HttpRequest) -> HttpResponse:
    """Celery: the task begins here, and the worker continues it."""
    task = Task(from_user=request.user, task_name="Recount the stock")
    task.begin(state="Waiting for a worker")
    jobs.recount_stock.delay(task.id, request.user.pk)
    return HttpResponse(status=202)


@login_required
@require_POST
def start_price_list(request: HttpRequest) -> HttpResponse:
    """A thread: no queue; the job ends with the process."""
    threading.Thread(target=_run, args=(jobs.write_price_list, request), daemon=True).start()
    return HttpResponse(status=202)


@login_required
@require_POST
def send_message(request: HttpRequest) -> HttpResponse:
    Message(
        from_user=request.user,
        to_users=_other(request.user),
        subject=request.POST["subject"],
        text=request.POST.get("text", ""),
    ).send()
    messages.success(request, f"Sent to {_other(request.user).first_name}")
    return render(request, "shop/messages.html")


def _other(user: AbstractBaseUser) -> AbstractBaseUser:
    """For Ann, Bob; for the others, Ann."""
    return get_user_model().objects.exclude(pk=user.pk).order_by("pk").first()


def _run(job: Callable[[HttpRequest], object], request: HttpRequest) -> None:
    try:
        job(request)
    finally:
        connections.close_all()  # those of this thread, which Django does not close
