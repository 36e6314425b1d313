from django.conf import settings
from django.db import models

from django_bridge import changed, live_model, live_permission


class Product(models.Model):
    name = models.CharField(max_length=100, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    stock = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


@live_model
class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed", "Placed"
        PACKED = "packed", "Packed"
        SENT = "sent", "Sent"

    number = models.PositiveIntegerField(unique=True)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    product = models.ForeignKey(Product, on_delete=models.CASCADE)
    pieces = models.PositiveIntegerField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLACED)

    def __str__(self) -> str:
        return f"{self.pieces} × {self.product}"

    def save(self, *args, **kwargs) -> None:
        """A new order is a change of the list: no page shows the order yet."""
        is_new = self._state.adding
        super().save(*args, **kwargs)
        if is_new:
            changed("orders")

    @property
    def next_step(self) -> str:
        """What the staff does next; empty at the end."""
        return {self.Status.PLACED: "Pack", self.Status.PACKED: "Send"}.get(self.status, "")

    def advance(self, step: str) -> None:
        """Take this step, if it is the next: a second click changes nothing."""
        if step == self.next_step:
            self.status = self.Status.PACKED if self.status == self.Status.PLACED else self.Status.SENT
            self.save(update_fields=["status"])


def orders_of(user) -> models.QuerySet[Order]:
    """All for the staff, a customer's own for the customer."""
    orders = Order.objects.select_related("customer", "product").order_by("number")
    return orders if user.is_staff else orders.filter(customer=user)


@live_permission(Order)
def may_see(user, order: Order) -> bool:
    return user.is_staff or order.customer_id == user.pk


@live_permission("orders")
def may_see_the_viewers(user, _: str) -> bool:
    return user.is_active
