from decimal import Decimal
from itertools import product
from random import Random

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from shop.models import Order, Product

NAMES = {"ann": "Ann", "bob": "Bob", "cleo": "Cleo"}
STAFF = {"ann"}
PASSWORD = "demo"
COLOURS = ("Red", "Green", "Blue", "White", "Black", "Yellow", "Grey", "Orange", "Brown", "Pink")
THINGS = ("mug", "lamp", "chair", "clock", "scarf", "notebook", "umbrella", "basket", "blanket", "kettle")


class Command(BaseCommand):
    help = "Creates three users (password: demo), a hundred products and some orders. A second run changes nothing."

    def handle(self, **options: object) -> None:
        if not settings.DEBUG:
            raise CommandError("The password of these users is public, so they are created only with DEBUG.")
        for username, first_name in NAMES.items():
            user, created = get_user_model().objects.get_or_create(
                username=username, defaults={"first_name": first_name, "is_staff": username in STAFF}
            )
            if created:
                user.set_password(PASSWORD)
                user.save()
        dice = Random(1)
        Product.objects.bulk_create(
            (
                Product(
                    name=f"{colour} {thing}",
                    price=Decimal(dice.randrange(300, 9000)) / 100,
                    stock=dice.randrange(100),
                )
                for colour, thing in product(COLOURS, THINGS)
            ),
            ignore_conflicts=True,
        )
        get_user_model().objects.filter(username__in=STAFF).update(is_staff=True)
        customers = list(get_user_model().objects.filter(is_staff=False, username__in=NAMES).order_by("username"))
        Order.objects.bulk_create(
            (
                Order(
                    number=1001 + number,
                    customer=customers[number % len(customers)],
                    product=ordered,
                    pieces=dice.randint(1, 6),
                    status=Order.Status.values[number // 4] if number < 8 else Order.Status.SENT,
                )
                for number, ordered in enumerate(Product.objects.order_by("-stock", "pk")[:10])
            ),
            ignore_conflicts=True,
        )
        self.stdout.write(f"Log in as {' or '.join(NAMES)}, password: {PASSWORD}")
