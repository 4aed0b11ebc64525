"""App configuration."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        """Have the workers of this core tell that they live."""
        from console import pulse

        pulse.follow_heartbeats()
