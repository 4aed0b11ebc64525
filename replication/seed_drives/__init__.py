"""Seed drives: a machine's points on a disk, carried to a target core and consumed there."""
