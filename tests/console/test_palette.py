"""The palette is readable: WCAG contrast of each pair that is used, in light and in dark."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).resolve().parents[2] / "static/console.css").read_text()

STATES = ("ok", "warn", "bad", "off", "accent")
TEXT_PAIRS = [
    *((ink, ground) for ink in ("ink", "muted") for ground in ("page", "panel", "raised", "field")),
    *((ink, ground) for ink in ("ink", "muted") for ground in ("sunken", "hover", "off-soft")),
    *((ink, "panel") for ink in STATES),
    *((ink, "hover") for ink in STATES),
    *((ink, "page") for ink in STATES),
    *((ink, f"{ink}-soft") for ink in STATES),
    *(("ink", f"{ink}-soft") for ink in STATES),
    ("on-fill", "accent-fill"),
    ("on-fill", "accent-fill-hover"),
    ("on-fill", "bad-fill"),
    ("on-fill", "bad-fill-hover"),
    ("bar-ink", "bar"),
    ("bar-muted", "bar"),
    ("bar-ink", "bar-hover"),
]
SHAPE_PAIRS = [("accent", "panel"), ("accent", "page"), ("bar-accent", "bar")]


def tokens() -> dict[str, tuple[str, str]]:
    """Return each colour token with its light and its dark value."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in re.findall(r"--([\w-]+):\s*([^;]+);", CSS):
        both = re.fullmatch(r"light-dark\((#\w{6}), (#\w{6})\)", value)
        if both:
            found[name] = (both[1], both[2])
        elif re.fullmatch(r"#\w{6}", value):
            found[name] = (value, value)
    return found


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT_PAIRS)
def test_text_is_readable(ink: str, ground: str, theme: int) -> None:
    palette = tokens()

    assert contrast(palette[ink][theme], palette[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("shape", "ground"), SHAPE_PAIRS)
def test_shapes_stand_out(shape: str, ground: str, theme: int) -> None:
    palette = tokens()

    assert contrast(palette[shape][theme], palette[ground][theme]) >= 3


def test_components_use_tokens_not_colours() -> None:
    components = CSS[CSS.index("@layer components {") :]

    assert re.findall(r"#[0-9a-f]{3,6}\b", components) == []
