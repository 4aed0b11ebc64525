"""App configuration."""

from django.apps import AppConfig


class ReplicationConfig(AppConfig):
    name = "replication"

    def ready(self) -> None:
        """Register with the rooms below: a new point is sent, and peers are asked who owns it."""
        from replication import peers, reconcile

        peers.register_hooks()
        reconcile.register_hooks()
