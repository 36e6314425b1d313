"""The Django app: registers the system checks and, where Celery is installed, the shared tasks of its workers."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register


class DjangoBridgeConfig(AppConfig):
    name = "django_bridge"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Notifier"

    def ready(self) -> None:
        from django_bridge import celery, checks
        from django_bridge.task import answers

        register(checks.check_settings)
        register(checks.check_urls)
        register(checks.check_live)
        register(checks.check_live_models)
        register(checks.check_deployment, deploy=True)
        celery.sending_task()
        celery.delivering_task()
        celery.checking_task()
        celery.escalating_task()
        answers.answering_task()
        celery.connect_reports()
