"""Celery tasks of the test project."""

from __future__ import annotations

from celery import shared_task


@shared_task
def generate_report(rows: int, title: str = "Report") -> str:
    return f"{title}: {rows} rows"
