"""Management commands of replication."""
