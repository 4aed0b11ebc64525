"""The workflows of protected machines: snapshot and export."""

from protected_machines.workflows import export, snapshot

__all__ = ["export", "snapshot"]
