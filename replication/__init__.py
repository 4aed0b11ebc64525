"""Cores and their pairings, replication, failover and failback."""
