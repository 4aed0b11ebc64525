"""Archives: copy points to a folder, and import them from one."""
