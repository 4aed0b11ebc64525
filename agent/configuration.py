"""The agent's configuration: `agent.json`, read once at start. Errors name the wrong entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import ConfigurationWrong
from agent.protocol import DEFAULT_PORT

CONFIGURATION_PATH = Path("/etc/understudy-agent/agent.json")
STATE_FOLDER = Path("/var/lib/understudy-agent")
RESCUE_STATE_FOLDER = Path("/run/understudy-rescue")  # memory
MODES = ("protect", "restore")
PROVIDERS = ("auto", "device_mapper", "fsfreeze", "file")


@dataclass(frozen=True)
class ConfiguredDisk:
    """A raw image file that the `file` provider serves as a disk."""

    key: str
    path: Path


@dataclass(frozen=True)
class Configuration:
    """What an administrator may set.

    In mode `restore` the machine runs the rescue medium, and its disks may be overwritten.

    `cow_bytes` limits the memory for blocks that are overwritten while a point is read; None means
    half of the free memory. `left_out_disks` are kernel names (`sdc`) of disks that no point holds.
    """

    mode: str = "protect"
    address: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    pairing_code: str | None = None
    provider: str = "auto"
    disks: tuple[ConfiguredDisk, ...] = ()
    left_out_disks: tuple[str, ...] = ()
    cow_bytes: int | None = None
    freeze_limit_seconds: int = 60
    state_folder: Path = STATE_FOLDER


def read_configuration(path: Path) -> Configuration:
    """Read `agent.json`; entries that are missing have their defaults.

    Raises:
        ConfigurationWrong: the file cannot be read, or an entry is unknown or has the wrong type.
    """
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationWrong(f"Reading {path}: {error}") from error
    if not isinstance(entries, dict):
        raise ConfigurationWrong(f"Reading {path}: expected a JSON object")
    values = {name: _checked(path, name, value) for name, value in entries.items()}
    if values.get("mode") == "restore":
        values.setdefault("state_folder", RESCUE_STATE_FOLDER)
    configuration = Configuration(**values)
    if configuration.provider == "file" and not configuration.disks:
        raise ConfigurationWrong(f"Reading {path}: provider 'file' needs entries in disks")
    return configuration


def _checked(path: Path, name: str, value: Any) -> Any:
    if name == "port" and _is_int(value, 0, 65535):
        return value
    if name == "provider" and value in PROVIDERS:
        return value
    if name == "mode" and value in MODES:
        return value
    if name in ("address", "pairing_code") and (value is None or isinstance(value, str)):
        return value
    if name == "cow_bytes" and (value is None or _is_int(value, 1024 * 1024, 2**50)):
        return value
    if name == "freeze_limit_seconds" and _is_int(value, 1, 3600):
        return value
    if name == "state_folder" and isinstance(value, str):
        return Path(value)
    if name == "left_out_disks" and _is_list_of_text(value):
        return tuple(value)
    if name == "disks" and isinstance(value, list):
        return tuple(_checked_disk(path, entry) for entry in value)
    raise ConfigurationWrong(
        f"Reading {path}: {name} is {value!r}; the entry is unknown or the value is not allowed"
    )


def _checked_disk(path: Path, entry: Any) -> ConfiguredDisk:
    if (
        not isinstance(entry, dict)
        or set(entry) != {"key", "path"}
        or not _is_list_of_text(list(entry.values()))
    ):
        raise ConfigurationWrong(
            f"Reading {path}: a disk needs a key and a path, and only those: {entry!r}"
        )
    return ConfiguredDisk(entry["key"], Path(entry["path"]))


def _is_int(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
