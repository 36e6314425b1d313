"""A small shop whose long jobs show their progress in the browser. Celery finds its application here."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
