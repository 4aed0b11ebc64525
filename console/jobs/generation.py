"""Whether this core's database is older than the world, because it was restored from a backup.

A number rises with every event of a job. It is kept twice: in the database, and in a file beside
the core's identity that no backup of the database holds. If the file is ahead, the database was
restored, and its open jobs describe a world that has moved on: they are held until a person has
looked at each.

The file is written after the commit and without a sync. After a power cut it may be behind, which
harms nothing: only a file that is ahead means something. SQLite does not sync each commit either
and may lose the last ones then. If the file kept them, jobs are held though nobody restored
anything; the database is older than the world all the same.
"""

import fcntl
import logging
import os
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F

from console.jobs.errors import DatabaseRestored
from console.jobs.models import Generation

logger = logging.getLogger(__name__)

_ROW = 1
_DIGITS = 20


def advance() -> None:
    """Raise the number. Call it in the transaction of what a restored database must not undo.

    Raises:
        DatabaseRestored: the database was restored from a backup, and its jobs are not held yet.
    """
    rows = Generation.objects.filter(pk=_ROW)
    if not rows.update(number=F("number") + 1):
        Generation.objects.create(pk=_ROW, number=1)
    number = rows.values_list("number", flat=True).get()
    if number <= number_of_file():
        raise DatabaseRestored(
            "This core's database was restored from a backup. Its open jobs are held first."
        )
    transaction.on_commit(lambda: write(number))


def is_restored() -> bool:
    """Tell whether the database is older than the file beside the identity."""
    return number_of_file() > number_of_database()


def catch_up() -> None:
    """Accept the database as it is now. Call it in the transaction that holds the jobs."""
    number = number_of_file() + 1
    Generation.objects.update_or_create(pk=_ROW, defaults={"number": number})
    transaction.on_commit(lambda: write(number))


def number_of_database() -> int:
    """Return the number that the database holds; 0 if it has seen no change yet."""
    return Generation.objects.filter(pk=_ROW).values_list("number", flat=True).first() or 0


def _path() -> Path:
    return Path(settings.UNDERSTUDY_HOME) / "generation"


def number_of_file() -> int:
    """Return the number beside the identity; 0 if there is none that can be read."""
    try:
        text = _path().read_text()
    except FileNotFoundError:
        return 0
    try:
        return int(text or 0)
    except ValueError:
        # Cut off by a power cut.
        logger.warning("generation file unreadable path=%s", _path())
        return 0


def write(number: int) -> None:
    """Raise the number in the file; another process may have raised it further already."""
    descriptor = os.open(_path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if number > number_of_file():
            os.pwrite(descriptor, f"{number:0{_DIGITS}}".encode(), 0)
    finally:
        os.close(descriptor)
