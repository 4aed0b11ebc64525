"""The rescue medium: a small system that boots from CD or USB stick and lets a core restore it."""
