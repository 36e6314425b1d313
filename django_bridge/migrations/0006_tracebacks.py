"""A column for the traceback of a failed task."""

# ruff: noqa: RUF012  # the form of every Django migration

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0005_more_fields"),
    ]

    operations = [
        migrations.AddField(
            model_name="taskrecord",
            name="traceback",
            field=models.TextField(blank=True, default="", null=True, verbose_name="traceback"),
        ),
    ]
