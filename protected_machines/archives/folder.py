"""Where an archive may lie: a look at the folder that a person typed, and the findings.

A path is typed by an administrator and used by this core's own account, so this core's own files
are out of bounds, and `UNDERSTUDY_ARCHIVE_ROOTS` can keep archives to where disks are mounted.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from console.findings import Finding
from console.wording import bytes_human

# What a disk has at its top that is no one's content.
_NO_CONTENT = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Place:
    """A folder as it is now. `trouble_text` says why it could not be looked at."""

    path: Path
    is_absolute: bool = True
    is_of_this_core: bool = False
    is_below_a_root: bool = True
    has_parent: bool = False
    is_there: bool = False
    is_folder: bool = False
    is_writable: bool = False
    is_archive: bool = False
    other_names: tuple[str, ...] = ()
    free_bytes: int = 0
    # Which file system it is on; another one there later means that the disk was changed.
    device: int = 0
    is_on_the_disk_of_the_store: bool = False
    trouble_text: str = ""


def look_at_place(text: str) -> Place:
    """Look at the folder that was typed; changes nothing and raises nothing."""
    typed = Path(text.strip())
    if not typed.is_absolute():
        return Place(typed, is_absolute=False)
    try:
        return _look(typed.resolve())
    except (OSError, RuntimeError) as error:
        return Place(typed, trouble_text=getattr(error, "strerror", "") or str(error))


def _look(path: Path) -> Place:
    home = settings.UNDERSTUDY_HOME
    roots = settings.UNDERSTUDY_ARCHIVE_ROOTS
    is_folder = path.is_dir()
    has_parent = path.parent.is_dir()
    # What is to be made is judged by where it is made.
    holder = path if is_folder else path.parent
    place = Place(
        path,
        is_of_this_core=path.is_relative_to(home) or home.is_relative_to(path),
        is_below_a_root=not roots or any(path.is_relative_to(root) for root in roots),
        has_parent=has_parent,
        is_there=path.exists(),
        is_folder=is_folder,
    )
    if place.is_of_this_core or not place.is_below_a_root or not holder.is_dir():
        return place
    names = sorted(entry.name for entry in path.iterdir()) if is_folder else []
    state = os.statvfs(holder)
    device = holder.stat().st_dev
    return Place(
        **{
            **place.__dict__,
            "is_writable": os.access(holder, os.W_OK | os.X_OK),
            "is_archive": (path / "machines").is_dir(),
            "other_names": tuple(
                name for name in names if name != "machines" and name not in _NO_CONTENT
            ),
            "free_bytes": state.f_bavail * state.f_frsize,
            "device": device,
            "is_on_the_disk_of_the_store": device == home.stat().st_dev,
        }
    )


def plan_new_archive(place: Place, needed_bytes: int) -> list[Finding]:
    """Return the findings about an archive there that needs so many more bytes. Pure."""
    findings = list(_place_findings(place))
    if findings:
        return findings
    path = place.path
    if place.other_names and not place.is_archive:
        shown = ", ".join(place.other_names[:_NAMES_SHOWN])
        return [
            Finding.error(
                "ARCHIVE-FOLDER-IN-USE",
                f"{path} already contains other files ({shown}). Enter a new folder "
                f"inside it, such as {path / 'archive'}; it will be created.",
            )
        ]
    if not place.is_writable:
        return [
            Finding.error(
                "ARCHIVE-NOT-WRITABLE", f"This core has no permission to write to {path}."
            )
        ]
    if place.free_bytes < needed_bytes:
        return [
            Finding.error(
                "ARCHIVE-TOO-SMALL",
                f"{bytes_human(needed_bytes)} to copy, but only "
                f"{bytes_human(place.free_bytes)} free at {path}.",
            )
        ]
    if place.is_on_the_disk_of_the_store:
        text = (
            f"{path} is on the same disk as this core's own files, so it would be lost "
            "with it. Is the archive disk mounted?"
        )
        return [Finding.warning("ARCHIVE-SAME-DISK", text)]
    return []


def plan_archive_to_read(place: Place) -> list[Finding]:
    """Return the findings about reading an archive there. Pure."""
    findings = list(_place_findings(place))
    if not findings and not place.is_archive:
        text = f"{place.path} is not an archive: it contains no recovery points."
        findings.append(Finding.error("ARCHIVE-NONE-THERE", text))
    return findings


def _place_findings(place: Place) -> list[Finding]:
    path = place.path
    if not place.is_absolute:
        text = "Enter the full path of the folder on this core, such as /mnt/usb/archive."
        return [Finding.error("ARCHIVE-PATH-RELATIVE", text)]
    if place.trouble_text:
        text = f"{path} cannot be read: {place.trouble_text}."
        return [Finding.error("ARCHIVE-NOT-READABLE", text)]
    if place.is_of_this_core:
        text = f"{path} belongs to this core's own files. Choose a folder outside of them."
        return [Finding.error("ARCHIVE-PATH-OF-THIS-CORE", text)]
    if not place.is_below_a_root:
        roots = ", ".join(str(root) for root in settings.UNDERSTUDY_ARCHIVE_ROOTS)
        text = f"On this core, archives must be below {roots}."
        return [Finding.error("ARCHIVE-PATH-NOT-ALLOWED", text)]
    if place.is_there and not place.is_folder:
        return [Finding.error("ARCHIVE-PATH-NO-FOLDER", f"{path} is a file, not a folder.")]
    if not place.is_there and not place.has_parent:
        text = f"The folder {path.parent} does not exist on this core. Is the disk mounted?"
        return [Finding.error("ARCHIVE-PATH-MISSING", text)]
    return []
