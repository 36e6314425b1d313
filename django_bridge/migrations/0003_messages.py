"""The table of kept messages."""

# ruff: noqa: RUF012  # the form of every Django migration

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_bridge", "0002_outbox"),
    ]

    operations = [
        migrations.CreateModel(
            name="MessageRecord",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="id")),
                ("sender_id", models.CharField(blank=True, max_length=128, verbose_name="sender's id")),
                ("sender_name", models.CharField(blank=True, max_length=255, verbose_name="sender")),
                ("subject", models.CharField(max_length=255, verbose_name="subject")),
                ("text", models.TextField(blank=True, verbose_name="text")),
                (
                    "level",
                    models.CharField(
                        choices=[
                            ("debug", "debug"),
                            ("info", "info"),
                            ("success", "success"),
                            ("warning", "warning"),
                            ("error", "error"),
                        ],
                        db_index=True,
                        default="info",
                        max_length=16,
                        verbose_name="level",
                    ),
                ),
                ("url", models.CharField(blank=True, max_length=2048, verbose_name="URL")),
                ("data", models.JSONField(default=dict, verbose_name="data")),
                ("sent_at", models.DateTimeField(db_index=True, verbose_name="sent at")),
                ("expires_at", models.DateTimeField(null=True, verbose_name="expires at")),
            ],
            options={
                "verbose_name": "message",
                "verbose_name_plural": "messages",
                "ordering": ("-sent_at", "-id"),
            },
        ),
        migrations.CreateModel(
            name="MessageRecipient",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("channel", models.CharField(db_index=True, max_length=140, verbose_name="recipient")),
                (
                    "message",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="recipients",
                        to="django_bridge.messagerecord",
                        verbose_name="message",
                    ),
                ),
            ],
            options={
                "verbose_name": "recipient",
                "verbose_name_plural": "recipients",
                "constraints": [models.UniqueConstraint(fields=("message", "channel"), name="notifier_recipient_once")],
            },
        ),
    ]
