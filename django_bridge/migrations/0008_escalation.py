"""What became of messages to users. Messages from before have no `created_at`, so that no signal is sent for them."""

# ruff: noqa: RUF012  # the form of every Django migration

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0007_results"),
    ]

    operations = [
        migrations.AddField(
            model_name="messagerecord",
            name="created_at",
            field=models.DateTimeField(db_index=True, null=True, verbose_name="created at"),
        ),
        migrations.AlterField(
            model_name="messagerecord",
            name="created_at",
            field=models.DateTimeField(
                db_index=True, default=django.utils.timezone.now, null=True, verbose_name="created at"
            ),
        ),
        migrations.CreateModel(
            name="MessageOutcome",
            fields=[
                (
                    "recipient",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="outcome",
                        serialize=False,
                        to="django_bridge.messagerecipient",
                        verbose_name="recipient",
                    ),
                ),
                ("state", models.CharField(max_length=16, verbose_name="state")),
            ],
        ),
    ]
