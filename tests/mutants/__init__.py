"""Important lines, broken one at a time: does a test notice? `python -m tests.mutants`."""
