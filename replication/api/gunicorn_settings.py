"""How gunicorn serves the core interface.

`gunicorn -c python:replication.api.gunicorn_settings replication.api.wsgi`: TLS 1.3 with the core's
identity certificate, on the address and port set in the environment. The TLS, and callers that
are slow or unknown, are `front`'s.
"""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "replication.api.settings"
django.setup()

from django.conf import settings  # noqa: E402

bind = f"{settings.UNDERSTUDY_ADDRESS}:{settings.UNDERSTUDY_CORE_PORT}"
worker_class = "replication.api.gunicorn_worker.GuardedThreads"
workers = 1
threads = 8
# A commit reads a whole base image to check it. Meanwhile the worker keeps sending its heartbeat.
timeout = 300
keepalive = 75
accesslog = None
proc_name = "understudy-core-interface"
