"""App configuration."""

from django.apps import AppConfig


class ReplicationConfig(AppConfig):
    name = "replication"

    def ready(self) -> None:
        """Register with the rooms below: new points are sent, peers asked, readiness reported."""
        from console.readiness import register_provider
        from replication.pages import readiness
        from replication.peers import connection
        from replication.transfer import start

        connection.register_hooks()
        start.register_hooks()
        register_provider(readiness.readiness)
