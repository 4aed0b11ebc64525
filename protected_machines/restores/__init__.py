"""Bare metal restores: points written onto a machine that runs the rescue medium."""
