"""App configuration."""

from django.apps import AppConfig


class ReplicationConfig(AppConfig):
    name = "replication"

    def ready(self) -> None:
        """Register with the rooms below: send new points, ask peers, report readiness."""
        from console.accounts.access import register_rules
        from console.jobs.access import register_job_rules
        from console.readiness import register_provider
        from console.sections import (
            Link,
            SettingsSection,
            register_section,
            register_start,
            register_tab,
        )
        from protected_machines.menus import register_item
        from replication import access, audited
        from replication.pages import readiness
        from replication.pages.menus import replicate_item
        from replication.pages.pairing_code_views import pairing_section
        from replication.peers import connection
        from replication.status import access as status_access
        from replication.status import risks
        from replication.transfer import start

        register_rules(access.RULES)
        register_rules(status_access.RULES)
        register_job_rules(access.JOB_RULES)
        audited.register()
        connection.register_hooks()
        start.register_hooks()
        register_provider(readiness.readiness)
        register_provider(risks.readiness)
        register_item(replicate_item)
        register_section(
            SettingsSection("pairing-codes", "replication/_settings_pairing.html", pairing_section)
        )
        register_tab(Link("Replication", "replication:page"))
        register_tab(Link("DR status", "status:page"))
        register_start(Link("Replication", "replication:page"))
