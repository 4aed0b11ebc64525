"""The Replication page and those of one pairing or one replicated machine."""
