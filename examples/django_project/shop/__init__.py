"""A small shop whose slow jobs are watched in the browser. Celery finds its application here."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
