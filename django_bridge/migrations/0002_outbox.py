"""The table of the outbox."""

# ruff: noqa: RUF012  # the form of every Django migration

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", models.CharField(max_length=64, unique=True, verbose_name="message id")),
                ("payload", models.TextField(verbose_name="payload")),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "waiting"), ("sending", "sending"), ("failed", "failed")],
                        db_index=True,
                        default="waiting",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("due_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="due at")),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                ("error", models.TextField(blank=True, verbose_name="error")),
                ("origin", models.CharField(max_length=32, verbose_name="origin")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="created at")),
            ],
            options={
                "verbose_name": "waiting message",
                "verbose_name_plural": "waiting messages",
                "ordering": ("pk",),
            },
        ),
    ]
