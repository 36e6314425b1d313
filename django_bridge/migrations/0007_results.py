"""Columns for the link to a task's result."""

# ruff: noqa: RUF012  # the form of every Django migration

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0006_tracebacks"),
    ]

    operations = [
        migrations.AddField(
            model_name="taskrecord",
            name="url",
            field=models.CharField(blank=True, default="", max_length=2048, null=True, verbose_name="URL"),
        ),
        migrations.AddField(
            model_name="taskrecord",
            name="url_text",
            field=models.CharField(blank=True, default="", max_length=255, null=True, verbose_name="text of the link"),
        ),
    ]
