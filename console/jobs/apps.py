"""App configuration."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from console.jobs.workflow import registered_workflows


class JobsConfig(AppConfig):
    name = "console.jobs"

    def ready(self) -> None:
        """Import every app's `workflows`, so that every process knows all kinds of jobs.

        Raises:
            ValueError: a workflow is declared wrongly.
        """
        autodiscover_modules("workflows")
        for workflow in registered_workflows():
            workflow.check()
