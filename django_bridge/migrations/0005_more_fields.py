"""A column for the fields of a kept message without a column of their own."""

# ruff: noqa: RUF012  # the form of every Django migration

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0004_shares"),
    ]

    operations = [
        migrations.AddField(
            model_name="messagerecord",
            name="more",
            field=models.JSONField(blank=True, default=dict, null=True, verbose_name="more"),
        ),
    ]
