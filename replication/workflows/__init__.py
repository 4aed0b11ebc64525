"""Workflows of replication. Importing the package registers them."""

from replication.workflows import failback, failback_end, failover, replicate, seed_drive

__all__ = ["failback", "failback_end", "failover", "replicate", "seed_drive"]
