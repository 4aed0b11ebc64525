"""The audit log: who did what, when, from where, to what, why, and how it went. Append-only."""
