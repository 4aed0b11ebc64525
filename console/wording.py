"""How pages and messages write figures, times and stored words."""

import datetime

# Shown where there is nothing to show.
NOTHING = "–"
# The unit, its seconds, and the age from which the next unit is used.
_AGE_UNITS = (
    ("second", 1, 60),
    ("minute", 60, 3600),
    ("hour", 3600, 36 * 3600),
    ("day", 86400, float("inf")),
)
_BYTE_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def bytes_human(count_bytes: float | None) -> str:
    """Return a number of bytes with a binary unit and at most three digits: `1.8 GiB`."""
    if count_bytes is None:
        return NOTHING
    amount = float(count_bytes)
    unit = 0
    while abs(amount) >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        amount /= 1024
        unit += 1
    if unit == 0:
        return f"{amount:.0f} byte" if amount == 1 else f"{amount:.0f} bytes"
    digits = 0 if abs(amount) >= 99.95 or amount == int(amount) else 1
    return f"{amount:.{digits}f} {_BYTE_UNITS[unit]}"


def rate_human(bytes_per_second: float | None) -> str:
    """Return a rate: `84 MiB/s`."""
    return NOTHING if bytes_per_second is None else f"{bytes_human(bytes_per_second)}/s"


def duration_human(seconds: float | datetime.timedelta | None) -> str:
    """Return a duration with its two largest units: `4 min 10 s`, `2 h`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
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


def age_text(seconds: float) -> str:
    """Return an age in words with one unit: `3 minutes ago`, `in 5 minutes`, `just now`."""
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


def words(stored: object) -> str:
    """Return a stored word such as `file_system` as words: `file system`."""
    return str(stored or "").replace("_", " ")


def span(seconds: float) -> str:
    """Return a length of time in words, rounded to one unit."""
    whole = int(max(0, seconds))
    for unit_seconds, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if whole >= unit_seconds * (1 if name == "minute" else 2) or (
            name == "hour" and whole >= unit_seconds
        ):
            count = round(whole / unit_seconds)
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    return "1 second" if whole == 1 else f"{whole} seconds"


def ago(then: datetime.datetime | None, now: datetime.datetime | None) -> str:
    """Return how long ago something was, in words."""
    if then is None:
        return "never"
    now = now or datetime.datetime.now(datetime.UTC)
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 2 else f"{span(seconds)} ago"
