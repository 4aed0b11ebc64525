"""App configuration."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class JobsConfig(AppConfig):
    name = "console.jobs"

    def ready(self) -> None:
        """Import every app's `workflows`, so that each process knows all kinds of job."""
        autodiscover_modules("workflows")
