"""App configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "console.accounts"

    def ready(self) -> None:
        """Register the rules of this room, and name its acts in the audit log."""
        from console.accounts import audited
        from console.accounts.access import RULES, register_rules

        register_rules(RULES)
        audited.register()
