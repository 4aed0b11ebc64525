"""The Celery application of one core. It carries wake-ups; the truth is in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
app = Celery("understudy")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
