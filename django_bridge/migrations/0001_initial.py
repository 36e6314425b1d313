"""The table of tasks."""

# ruff: noqa: RUF012  # the form of every Django migration

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskRecord",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="id")),
                ("name", models.CharField(max_length=255, verbose_name="name")),
                ("to", models.JSONField(default=list, verbose_name="recipients")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("running", "running"),
                            ("cancelling", "cancelling"),
                            ("stalled", "stalled"),
                            ("succeeded", "succeeded"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                        ],
                        db_index=True,
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                ("state", models.TextField(blank=True, verbose_name="state")),
                ("done", models.PositiveBigIntegerField(default=0, verbose_name="done")),
                ("total", models.PositiveBigIntegerField(null=True, verbose_name="total")),
                ("error", models.TextField(blank=True, verbose_name="error")),
                ("cancel_requested", models.BooleanField(default=False, verbose_name="cancel requested")),
                ("started_at", models.DateTimeField(db_index=True, verbose_name="started at")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
                "ordering": ("-started_at",),
            },
        ),
    ]
