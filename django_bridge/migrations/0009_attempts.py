"""How often the receivers of a signal of an unread or read message have failed."""

# ruff: noqa: RUF012  # the form of every Django migration

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0008_escalation"),
    ]

    operations = [
        migrations.AddField(
            model_name="messageoutcome",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, null=True, verbose_name="attempts"),
        ),
    ]
