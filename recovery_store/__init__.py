"""Recovery points on disk: write, read, merge and prove them. Knows no Django."""
