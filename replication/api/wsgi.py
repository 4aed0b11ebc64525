"""The core interface as a separate WSGI application."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "replication.api.settings"
application = get_wsgi_application()
