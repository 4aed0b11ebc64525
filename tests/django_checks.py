"""Run Django's own checks: settings fit for production, and no model change without a migration."""

import os
import tempfile

os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
os.environ["UNDERSTUDY_HOME"] = tempfile.mkdtemp(prefix="understudy-checks-")

import django
from django.core.management import call_command

if __name__ == "__main__":
    django.setup()
    call_command("check", deploy=True, fail_level="ERROR")
    call_command("makemigrations", check=True, dry_run=True)
