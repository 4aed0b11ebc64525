"""The frame's files: small, complete, and in the vendored htmx as it is used."""

import re
from pathlib import Path

import django_htmx

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"


def test_script_stays_small() -> None:
    assert len((ROOT / "static/console.js").read_text().splitlines()) <= 150


def test_every_icon_that_is_named_is_drawn() -> None:
    sprite = (TEMPLATES / "console/_icons.html").read_text()
    drawn = set(re.findall(r'id="icon-([\w-]+)"', sprite))
    named = set()
    for template in TEMPLATES.rglob("*.html"):
        named |= set(re.findall(r'{% icon "([\w-]+)"(?! ?\|)', template.read_text()))
        named |= set(re.findall(r'icon(?:_name)?="([\w-]+)"', template.read_text()))
    named = {name for name in named if not name.endswith("-")}

    assert named - drawn == set()


def test_no_template_styles_an_element_inline() -> None:
    styled = [
        str(template.relative_to(ROOT))
        for template in TEMPLATES.rglob("*.html")
        if re.search(r'\sstyle="', template.read_text())
    ]

    assert styled == []


def test_vendored_htmx_knows_the_settings_in_use() -> None:
    script = Path(django_htmx.__file__).parent / "static/django_htmx/htmx-2.js"
    document = (TEMPLATES / "console/_document.html").read_text()
    config = re.search(r"name=\"htmx-config\"\s+content='({.*?})'", document, re.DOTALL)
    assert config is not None

    for name in re.findall(r'"(\w+)":', config[1]):
        assert re.search(rf"\b{name}:", script.read_text()), name
