"""What a rescue medium says about itself: its version, and when it was built.

All of it is in the ISO's primary volume descriptor (ECMA-119, 8.4), so no other file has to be kept
with it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

# The agent recognizes a stick that it must not overwrite by the beginning of this.
VOLUME_ID = "UNDERSTUDY_RESCUE"
_APPLICATION = "UNDERSTUDY "
_DESCRIPTOR_AT = 32768
_DESCRIPTOR_BYTES = 2048
_VOLUME_ID = slice(40, 72)
_APPLICATION_ID = slice(574, 702)
_CREATED = slice(813, 829)  # digits; the byte after them is the zone in quarters of an hour
_ZONE = slice(829, 830)


class NotAMedium(Exception):
    """The file is not a rescue medium, or cannot be read; the text says why."""


@dataclass(frozen=True)
class MediumFacts:
    """What a rescue medium says about itself."""

    version: str
    built_at: datetime
    size_bytes: int


def application_id(version: str) -> str:
    """Return the application id of the ISO."""
    return f"{_APPLICATION}{version}"


def read_facts(path: Path) -> MediumFacts:
    """Read what a rescue medium says about itself.

    Raises:
        NotAMedium: the file cannot be read, or is not a medium.
    """
    try:
        with path.open("rb") as file:
            file.seek(_DESCRIPTOR_AT)
            descriptor = file.read(_DESCRIPTOR_BYTES)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise NotAMedium(f"{path} cannot be read: {error.strerror}") from error
    application = _text(descriptor[_APPLICATION_ID])  # in capitals, as the standard requires
    if (
        descriptor[:6] != b"\x01CD001"
        or _text(descriptor[_VOLUME_ID]) != VOLUME_ID
        or not application.startswith(_APPLICATION)
    ):
        raise NotAMedium(f"{path} is not a rescue medium")
    return MediumFacts(
        application.removeprefix(_APPLICATION).lower(), _created(path, descriptor), size_bytes
    )


def _created(path: Path, descriptor: bytes) -> datetime:
    try:
        local = datetime.strptime(f"{_text(descriptor[_CREATED])[:14]}+0000", "%Y%m%d%H%M%S%z")
    except ValueError as error:
        raise NotAMedium(f"{path} does not say when it was built") from error
    quarters = int.from_bytes(descriptor[_ZONE], "big", signed=True)
    return local - timedelta(minutes=15 * quarters)


def _text(field: bytes) -> str:
    return field.decode("ascii", "replace").strip()
