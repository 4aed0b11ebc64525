"""Bare metal restores: write points to a machine that runs the rescue medium."""
