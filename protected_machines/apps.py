"""App configuration."""

from django.apps import AppConfig


class ProtectedMachinesConfig(AppConfig):
    name = "protected_machines"

    def ready(self) -> None:
        """Register what the navigation, the home page and the settings page show of this room."""
        from console.accounts.access import register_rules
        from console.health import register_check
        from console.jobs.access import register_job_rules
        from console.jobs.panels import StepPanel, register_panel
        from console.readiness import register_provider
        from console.sections import (
            Link,
            SettingsSection,
            register_navigation,
            register_notice,
            register_section,
            register_start,
        )
        from protected_machines import access, audited
        from protected_machines.exports.settings_page import vcenter_section
        from protected_machines.exports.strays import stray_notice
        from protected_machines.exports.vcenters import refusal_notice
        from protected_machines.exports.whereabouts import show_whereabouts
        from protected_machines.own_store import store_notice, store_trouble
        from protected_machines.ownership import owner_notice
        from protected_machines.readiness import owner_readiness, readiness
        from protected_machines.restores.medium_views import medium_section

        register_rules(access.RULES)
        register_job_rules(access.JOB_RULES)
        audited.register()
        # First: until the owner is settled, nothing else that is said of a machine matters.
        register_provider(owner_readiness)
        register_provider(readiness)
        register_notice(store_notice)
        register_check("store", store_trouble)
        register_notice(owner_notice)
        register_notice(refusal_notice)
        register_notice(stray_notice)
        register_panel(StepPanel("protected_machines/_job_whereabouts.html", show_whereabouts))
        register_navigation("protected_machines/_navigation.html")
        register_start(
            Link("Protect a machine", "protected_machines:machine-protect", is_dialog=True)
        )
        register_section(
            SettingsSection(
                "vcenters", "protected_machines/_settings_vcenters.html", vcenter_section
            )
        )
        register_section(
            SettingsSection(
                "rescue-medium",
                "protected_machines/_settings_rescue_medium.html",
                medium_section,
            )
        )
