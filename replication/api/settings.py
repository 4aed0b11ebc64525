"""Settings of the process that serves the core interface: the console's, without its pages."""

from console import settings as console_settings
from console.settings import *  # noqa: F403

ROOT_URLCONF = "replication.api.urls"
WSGI_APPLICATION = "replication.api.wsgi.application"
# A peer may call this core by any name; it recognises the core by its certificate.
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [app for app in console_settings.INSTALLED_APPS if not app.startswith("allauth")]
# No user signs in here, only cores.
AUTHENTICATION_BACKENDS = []
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
APPEND_SLASH = False
