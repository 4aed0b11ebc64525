"""How templates show figures, times and states, the same way everywhere."""

import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from console.wording import (
    NOTHING,
    age_text,
    bytes_human,
    duration_human,
    rate_human,
    words,
)

register = template.Library()
for plain in (bytes_human, rate_human, duration_human, words):
    register.filter(plain)

# Tone → icon in the sprite. Colour is never the only sign: each tone has its own shape.
TONE_ICONS = {
    "ok": "state-ok",
    "warn": "state-warn",
    "bad": "state-bad",
    "off": "state-off",
    "busy": "state-busy",
}


@register.filter
def age(moment: datetime.datetime | None, missing: str = "never") -> SafeString | str:
    """Show how long ago, as `<time>` with the exact time as a tooltip."""
    if moment is None:
        return missing
    return _time_element(moment, age_text((timezone.now() - moment).total_seconds()))


@register.filter
def moment(at: datetime.datetime | None, missing: str = "never") -> SafeString | str:
    """Show the time itself, `2026-03-01 14:05`, as `<time>`."""
    return missing if at is None else _time_element(at, f"{timezone.localtime(at):%Y-%m-%d %H:%M}")


def _time_element(at: datetime.datetime, text: str) -> SafeString:
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        text,
    )


@register.filter
def fingerprint(hexadecimal: str) -> SafeString | str:
    """Show a fingerprint in groups of four, so that people can read it out to each other."""
    if not hexadecimal:
        return NOTHING
    groups = (hexadecimal[start : start + 4] for start in range(0, len(hexadecimal), 4))
    return format_html('<code class="fingerprint">{}</code>', " ".join(groups))


@register.simple_block_tag
def prose(content: str) -> SafeString:
    """Join text that spans several lines into one: `{% prose as text %}`.

    Arguments of a tag must be on one line. `content` has been rendered, so it is already escaped.
    """
    return mark_safe(" ".join(content.split()))


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Render an icon of the sprite. Without a label it is hidden from screen readers."""
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="#icon-{}"></use></svg>',
            label,
            name,
        )
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="#icon-{}"></use></svg>', name
    )


@register.simple_tag
def state(tone: str, text: str, reason: str = "") -> SafeString:
    """Render a badge: icon, colour and text. `tone` is ok, warn, bad, off or busy."""
    return format_html(
        '<span class="state state-{}"{}>{}{}</span>',
        tone,
        format_html(' title="{}"', reason) if reason else "",
        icon(TONE_ICONS[tone]),
        text,
    )
