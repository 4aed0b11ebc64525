"""The workflows of protected machines: snapshot and export."""
