"""App configuration."""

from django.apps import AppConfig, apps


class AccountsConfig(AppConfig):
    name = "console.accounts"

    def ready(self) -> None:
        """Register this room's rules and acts, and its section of the Settings page."""
        from console.accounts import audited
        from console.accounts.access import RULES, register_rules
        from console.sections import SettingsSection, register_section

        register_rules(RULES)
        audited.register()
        if not apps.is_installed("allauth.mfa"):
            # The core interface: nobody signs in there, and it has no pages.
            return
        from console.accounts.user_views import users_section

        register_section(SettingsSection("users", "account/_settings_users.html", users_section))
