"""All of failover: the dialog, the check, the start, the workflow and its progress."""
