"""Sections of the Settings page that other rooms bring along."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True)
class SettingsSection:
    """A part of the Settings page. `template` gets what `values` returns as `section`."""

    name: str
    template: str
    values: Callable[[HttpRequest], Mapping[str, Any]]


_sections: dict[str, SettingsSection] = {}


def register_section(section: SettingsSection) -> SettingsSection:
    """Add a section at the end of the Settings page. Called from an app's `ready()`."""
    _sections[section.name] = section
    return section


def settings_sections() -> list[SettingsSection]:
    """Return the sections in the order of their registration."""
    return list(_sections.values())
