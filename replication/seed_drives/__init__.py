"""Seed drives: a machine's points on a disk, for a target core to consume."""
