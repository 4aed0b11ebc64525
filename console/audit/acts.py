"""What kinds of acts there are, and which objects they are about. Each room registers its own.

The code of an act on the site is the name of its URL. Like all stored words it is never renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from console.audit.log import NOTHING, Subject

_titles: dict[str, str] = {}


def register_acts(titles: Mapping[str, str]) -> None:
    """Give acts their titles, by code. Called from an app's `ready()`."""
    _titles.update(titles)


def known_acts() -> dict[str, str]:
    """Return the titles of all acts that this version knows, by code."""
    return dict(_titles)


def title_of(act: str) -> str:
    """Return the act's title; its code, if another version recorded it."""
    return _titles.get(act, act)


@dataclass(frozen=True)
class ObjectKind:
    """What a URL's argument names. `name_field`: the lookup of its name; `page`: its URL name."""

    kind: str
    model: type[Model]
    name_field: str
    page: str = ""


_objects: dict[str, ObjectKind] = {}


def register_objects(kinds: Mapping[str, ObjectKind]) -> None:
    """Say what arguments of URLs name. Called from an app's `ready()`."""
    _objects.update(kinds)


def subject_of(arguments: Mapping[str, Any]) -> Subject:
    """Return the object that a URL is about: that of its last argument that names one."""
    for argument, key in reversed(list(arguments.items())):
        known = _objects.get(argument)
        if known is not None:
            rows = known.model._default_manager.filter(pk=key)
            name = rows.values_list(known.name_field, flat=True).first()
            return Subject(known.kind, str(key), str(name or ""))
    return NOTHING


def page_of(kind: str, object_id: str) -> str:
    """Return the address of an object's page; empty if objects of this kind have none."""
    for known in _objects.values():
        if known.kind == kind and known.page:
            try:
                return reverse(known.page, args=[object_id])
            except NoReverseMatch:
                return ""
    return ""
