"""The Replication page, and the pages of one pairing and of one replicated machine."""
