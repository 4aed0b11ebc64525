"""All of failover: the dialog, its findings, the start, the workflow, its progress."""
