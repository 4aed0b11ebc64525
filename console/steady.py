"""Whether this computer's clock can be relied on to delete for good what has become old.

A clock that is a year ahead for a minute makes everything look old. It is wrong most often right
after the computer was started, or has just been set. So what is deleted by age waits until the
clock has been left alone for a while. How far the clock is ahead of the time since the start shows
whether it was set; a file in the core's folder remembers that.
"""

import datetime
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

logger = logging.getLogger(__name__)

STEADY_AFTER_SECONDS = 1800
# Less matters to nothing that is counted in days.
_STEP_SECONDS = 300


@dataclass(frozen=True)
class ClockRecord:
    """What is known about the clock. Seconds count from the start of this computer."""

    boot_id: str
    seen_at: datetime.datetime
    seen_seconds: float
    steady_since_seconds: float
    # When it was last found to have been set, by its time afterwards; null if it never was.
    set_at: datetime.datetime | None = None

    @property
    def is_steady(self) -> bool:
        """Whether nobody has set the clock for a while."""
        return self.seen_seconds - self.steady_since_seconds >= STEADY_AFTER_SECONDS


def follow(
    known: ClockRecord | None, boot_id: str, seconds: float, now: datetime.datetime
) -> ClockRecord:
    """Return what is known after another look at the clock. Pure."""
    if known is None:
        return ClockRecord(boot_id, now, seconds, seconds)
    if known.boot_id != boot_id:
        went_back = (known.seen_at - now).total_seconds() > _STEP_SECONDS
        return ClockRecord(boot_id, now, seconds, seconds, now if went_back else known.set_at)
    expected = known.seen_at + datetime.timedelta(seconds=seconds - known.seen_seconds)
    if abs((now - expected).total_seconds()) > _STEP_SECONDS:
        return ClockRecord(boot_id, now, seconds, seconds, now)
    return ClockRecord(boot_id, now, seconds, known.steady_since_seconds, known.set_at)


def look_at_clock() -> ClockRecord:
    """Look at the clock, and remember it."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = _read()
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
    record = follow(known, boot_id, seconds, timezone.now())
    if known is not None and record.set_at != known.set_at:
        logger.warning("clock was set expected_near=%s now=%s", known.seen_at, record.seen_at)
    _write(record)
    return record


def _path() -> Path:
    return Path(settings.UNDERSTUDY_HOME) / "clock"


def _read() -> ClockRecord | None:
    try:
        fields: dict[str, Any] = json.loads(_path().read_text())
        for name in ("seen_at", "set_at"):
            if fields[name] is not None:
                fields[name] = datetime.datetime.fromisoformat(fields[name])
        return ClockRecord(**fields)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Cut off by a power cut. The computer was started since, which says the same.
        logger.warning("clock file unreadable path=%s", _path())
        return None


def _write(record: ClockRecord) -> None:
    fields = {
        name: value.isoformat() if isinstance(value, datetime.datetime) else value
        for name, value in asdict(record).items()
    }
    new = _path().with_name("clock.new")
    new.write_text(json.dumps(fields))
    new.replace(_path())
