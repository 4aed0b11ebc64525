"""Workflows of replication: replicate and fail over. Importing the package registers them."""

from replication.workflows import failover, replicate

__all__ = ["failover", "replicate"]
