"""How gunicorn serves a second core's interface in tests: as in production, with a cheap hash.

Each pairing hashes an administrator's password on that core, half a second of a processor's time.
"""

from django.conf import settings

from replication.api.gunicorn_settings import *  # noqa: F403

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
