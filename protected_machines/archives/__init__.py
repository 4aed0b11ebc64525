"""Archives: points copied to a folder, and brought back from one."""
