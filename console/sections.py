"""What other rooms add to the frame, so that the frame's templates do not name them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse


@dataclass(frozen=True)
class SettingsSection:
    """A section of the Settings page. `template` gets the result of `values` as `section`."""

    name: str
    template: str
    values: Callable[[HttpRequest], Mapping[str, Any]]


_sections: dict[str, SettingsSection] = {}


def register_section(section: SettingsSection) -> SettingsSection:
    """Add a section at the end of the Settings page. Called from an app's `ready()`."""
    _sections[section.name] = section
    return section


def settings_sections() -> list[SettingsSection]:
    """Return the sections, in the order of registration."""
    return list(_sections.values())


@dataclass(frozen=True)
class Link:
    """A link into a room, by its URL name. `is_dialog`: it opens a dialog."""

    title: str
    url_name: str
    is_dialog: bool = False

    @property
    def url(self) -> str:
        return reverse(self.url_name)


_tabs: dict[str, Link] = {}
_starts: dict[str, Link] = {}
_navigation_templates: list[str] = []


@dataclass(frozen=True)
class Notice:
    """What every page shows above its content. `tone` is warn or bad; `code` is stable."""

    tone: str
    title: str
    text: str
    code: str = ""


_notices: list[Callable[[], Notice | None]] = []


def register_notice(notice: Callable[[], Notice | None]) -> None:
    """Have every page ask whether there is something to notice. It has to be cheap."""
    if notice not in _notices:
        _notices.append(notice)


def notices() -> list[Notice]:
    """Return what every page has to show now."""
    return [found for ask in _notices if (found := ask()) is not None]


def register_tab(link: Link) -> Link:
    """Add a tab to the header, between Home and Jobs."""
    _tabs[link.url_name] = link
    return link


def registered_tabs() -> list[Link]:
    """Return the tabs, in the order of registration."""
    return list(_tabs.values())


def register_start(link: Link) -> Link:
    """Offer a first step on the home page of a core that has no machines yet."""
    _starts[link.url_name] = link
    return link


def registered_starts() -> list[Link]:
    """Return the first steps, in the order of registration."""
    return list(_starts.values())


def register_navigation(template: str) -> None:
    """Add a template to the navigation on the left."""
    if template not in _navigation_templates:
        _navigation_templates.append(template)


def navigation_templates() -> list[str]:
    """Return the templates of the navigation."""
    return list(_navigation_templates)
