"""All of failback: the dialog, the check, the quote, the workflow, its progress and its end."""
