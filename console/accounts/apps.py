"""App configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "console.accounts"

    def ready(self) -> None:
        from console.accounts.access import RULES, register_rules

        register_rules(RULES)
