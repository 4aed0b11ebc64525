"""The core interface as a separate WSGI application."""

import os
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "replication.api.settings"
_django = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Serve a request that came over TLS, which ends before gunicorn (see `front`)."""
    environ["wsgi.url_scheme"] = "https"
    return _django(environ, start_response)
