"""The table of shares: the progress of each worker's part of a task."""

# ruff: noqa: RUF012  # the form of every Django migration

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0003_messages"),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskShare",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=200, verbose_name="key")),
                ("counted", models.PositiveBigIntegerField(default=0, verbose_name="counted")),
                ("told", models.PositiveBigIntegerField(default=0, verbose_name="told")),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shares",
                        to="django_bridge.taskrecord",
                        verbose_name="task",
                    ),
                ),
            ],
            options={
                "verbose_name": "share of a task",
                "verbose_name_plural": "shares of tasks",
                "constraints": [models.UniqueConstraint(fields=("task", "key"), name="notifier_share_once")],
            },
        ),
    ]
