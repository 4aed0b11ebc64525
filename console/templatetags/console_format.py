"""How the console writes figures, times and states, the same everywhere."""

import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

_BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
# Unit, its seconds, and the age from which the next unit is used.
_AGE_UNITS = (
    ("second", 1, 60),
    ("minute", 60, 3600),
    ("hour", 3600, 36 * 3600),
    ("day", 86400, float("inf")),
)
_NOTHING = "–"
# State word → icon of the sprite. Colour never stands alone: each state has its own shape.
STATE_ICONS = {
    "ok": "state-ok",
    "warn": "state-warn",
    "bad": "state-bad",
    "off": "state-off",
    "busy": "state-busy",
}


@register.filter
def bytes_human(count_bytes: float | None) -> str:
    """Write a number of bytes with a binary unit: `1.8 GiB`; three digits at most."""
    if count_bytes is None:
        return _NOTHING
    amount = float(count_bytes)
    unit = 0
    while abs(amount) >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        amount /= 1024
        unit += 1
    if unit == 0:
        return f"{amount:.0f} byte" if amount == 1 else f"{amount:.0f} bytes"
    digits = 0 if abs(amount) >= 99.95 or amount == int(amount) else 1
    return f"{amount:.{digits}f} {_BYTE_UNITS[unit]}"


@register.filter
def rate_human(bytes_per_second: float | None) -> str:
    """Write a rate: `84 MiB/s`."""
    return _NOTHING if bytes_per_second is None else f"{bytes_human(bytes_per_second)}/s"


@register.filter
def duration_human(seconds: float | datetime.timedelta | None) -> str:
    """Write a duration with its two largest units: `4 min 10 s`, `2 h`, `3 d 4 h`."""
    if seconds is None:
        return _NOTHING
    if isinstance(seconds, datetime.timedelta):
        seconds = seconds.total_seconds()
    if 0 < seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    left = round(seconds)
    for (unit, unit_seconds), (small, small_seconds) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if left >= unit_seconds:
            rest = left % unit_seconds // small_seconds
            whole = f"{left // unit_seconds} {unit}"
            return f"{whole} {rest} {small}" if rest else whole
    return f"{left} s"


@register.filter
def age(moment: datetime.datetime | None, missing: str = "never") -> SafeString | str:
    """Write how long ago, as `<time>` with the exact time in its title."""
    if moment is None:
        return missing
    return _time_element(moment, age_text((timezone.now() - moment).total_seconds()))


@register.filter
def moment(at: datetime.datetime | None, missing: str = "never") -> SafeString | str:
    """Write the time itself, `2026-03-01 14:05`, as `<time>`."""
    return missing if at is None else _time_element(at, f"{timezone.localtime(at):%Y-%m-%d %H:%M}")


def age_text(seconds: float) -> str:
    """Write an age in words with one unit: `3 minutes ago`, `in 5 minutes`, `just now`."""
    distance = abs(seconds)
    if distance < 10:
        return "just now"
    unit, unit_seconds = next(
        (unit, unit_seconds)
        for unit, unit_seconds, limit_seconds in _AGE_UNITS
        if distance < limit_seconds
    )
    count = int(distance // unit_seconds)
    text = f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _time_element(at: datetime.datetime, text: str) -> SafeString:
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(timespec="seconds"),
        f"{local:%Y-%m-%d %H:%M:%S %Z}",
        text,
    )


@register.filter
def words(stored: object) -> str:
    """Write a stored word such as `file_system` as words: `file system`."""
    return str(stored or "").replace("_", " ")


@register.filter
def fingerprint(hexadecimal: str) -> SafeString | str:
    """Write a fingerprint in groups of four, so that two people can read it to each other."""
    if not hexadecimal:
        return _NOTHING
    groups = (hexadecimal[start : start + 4] for start in range(0, len(hexadecimal), 4))
    return format_html('<code class="fingerprint">{}</code>', " ".join(groups))


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Draw an icon of the sprite. Without a label it is decoration that nobody reads out."""
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
def state(word: str, text: str, reason: str = "") -> SafeString:
    """Draw a state: icon, colour and word. `word` is ok, warn, bad, off or busy."""
    return format_html(
        '<span class="state state-{}"{}>{}{}</span>',
        word,
        format_html(' title="{}"', reason) if reason else "",
        icon(STATE_ICONS[word]),
        text,
    )
