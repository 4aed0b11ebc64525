"""Templates keep to the order of the rooms: none links into a room above its own."""

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[2] / "templates"
# Lowest first. The folders not named here belong to the frame, as the jobs do that it counts.
ROOMS = ("console", "protected_machines", "replication")
_USES = re.compile(
    r"""\{%\s*url\s+["'](?P<url>\w+):"""
    r"""|\{%\s*(?:include|extends)\s+["'](?P<template>\w+)/"""
    r"""|["'](?P<text>\w+)/[\w/]+\.html["']"""
)
_ADDRESS = re.compile(r"""\b(?:href|action|hx-\w+)="/\w""")


def room_of(folder: str) -> int:
    return ROOMS.index(folder) if folder in ROOMS else 0


def paths() -> list[str]:
    return sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.html"))


@pytest.mark.parametrize("name", paths())
def test_no_template_reaches_into_a_room_above(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    own = room_of(name.partition("/")[0])
    used = {use["url"] or use["template"] or use["text"] for use in _USES.finditer(text)}

    assert [room for room in used if room_of(room) > own] == []


@pytest.mark.parametrize("name", paths())
def test_no_template_spells_an_address_out(name: str) -> None:
    assert _ADDRESS.findall((TEMPLATES / name).read_text()) == []
