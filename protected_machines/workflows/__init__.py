"""The workflows of protected machines: snapshot, export and restore."""

from protected_machines.workflows import export, restore, snapshot

__all__ = ["export", "restore", "snapshot"]
