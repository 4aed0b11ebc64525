"""Recovery points on their way from a source core to a target core."""
