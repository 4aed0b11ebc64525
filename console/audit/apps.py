"""App configuration."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "console.audit"

    def ready(self) -> None:
        """Register the rules of this room, show the log in Settings, and name its own act."""
        from console.accounts.access import register_rules
        from console.audit.access import RULES
        from console.audit.acts import register_acts
        from console.audit.views import audit_section
        from console.sections import SettingsSection, register_section

        register_rules(RULES)
        register_acts({"audit:export": "Export the audit log"})
        register_section(SettingsSection("audit", "audit/_settings_audit.html", audit_section))
