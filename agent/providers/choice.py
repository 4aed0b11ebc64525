"""Choose the provider for a configuration."""

from __future__ import annotations

import logging

from agent.configuration import Configuration
from agent.disks import find_disks
from agent.errors import SnapshotFailed
from agent.providers import Provider
from agent.providers.device_mapper import DeviceMapperProvider
from agent.providers.file import FileProvider
from agent.providers.fsfreeze import FsfreezeProvider

log = logging.getLogger(__name__)


def choose_provider(configuration: Configuration) -> Provider:
    """Return the configured provider; `auto` takes the best one that works here."""
    if configuration.provider == "file":
        return FileProvider(configuration.disks)
    if configuration.provider == "fsfreeze" or not _wants_layer(configuration):
        return FsfreezeProvider(configuration.freeze_limit_seconds, configuration.left_out_disks)
    provider = DeviceMapperProvider(configuration.cow_bytes, configuration.left_out_disks)
    try:
        provider.clean_up()
    except (SnapshotFailed, OSError) as error:
        # A point would fail with the same error. Until then, the agent can describe its machine.
        log.warning("layer not usable reason=%s", error)
    return provider


def _wants_layer(configuration: Configuration) -> bool:
    if configuration.provider == "device_mapper":
        return True
    found = find_disks(configuration.left_out_disks)
    return bool(found) and all(disk.layer_name for disk in found)
