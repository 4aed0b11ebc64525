"""How gunicorn serves the core interface.

`gunicorn -c python:replication.api.gunicorn_settings replication.api.wsgi`: TLS 1.3 with the core's
identity certificate, on the address and port set in the environment.
"""

import os
import ssl
from collections.abc import Callable
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "replication.api.settings"
django.setup()

from django.conf import settings  # noqa: E402

from console.identity import this_core  # noqa: E402

_core = this_core()
bind = f"{settings.UNDERSTUDY_ADDRESS}:{settings.UNDERSTUDY_CORE_PORT}"
certfile = str(_core.certificate_path)
keyfile = str(_core.key_path)
worker_class = "gthread"
workers = 1
threads = 8
# A commit reads a whole base image to check it. Meanwhile the worker keeps sending its heartbeat.
timeout = 300
keepalive = 75
accesslog = None
proc_name = "understudy-core-interface"


def ssl_context(_config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Allow only TLS 1.3: both ends are this program."""
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
