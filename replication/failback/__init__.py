"""All of failback: the dialog, its quote, the workflow, its progress and its end."""
