"""The Django project of one core: settings, the frame of its pages, jobs and accounts."""

from console.celery import app as celery_app

__all__ = ["celery_app"]
