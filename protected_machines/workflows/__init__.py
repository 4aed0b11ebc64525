"""The workflows of protected machines: snapshot, export, restore, archive and its import."""

from protected_machines.workflows import archive, export, import_archive, restore, snapshot

__all__ = ["archive", "export", "import_archive", "restore", "snapshot"]
