"""App configuration."""

from django.apps import AppConfig


class ProtectedMachinesConfig(AppConfig):
    name = "protected_machines"
