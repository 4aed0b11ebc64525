"""App configuration."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from console.jobs.workflow import registered_workflows


class JobsConfig(AppConfig):
    name = "console.jobs"

    def ready(self) -> None:
        """Register the rules; import every app's `workflows`, so that all kinds are known.

        Raises:
            ValueError: a workflow is declared wrongly.
        """
        from console.accounts.access import register_rules
        from console.jobs import audited
        from console.jobs.access import RULES

        register_rules(RULES)
        autodiscover_modules("workflows")
        for workflow in registered_workflows():
            workflow.check()
        audited.register()
