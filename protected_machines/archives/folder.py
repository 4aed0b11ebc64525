"""Where an archive may be: a survey of the folder that a person typed, and the findings.

An administrator types the path and this core's own account uses it, so this core's own files, its
program and what it serves to browsers among them, are out of bounds, and so are the system's.
`UNDERSTUDY_ARCHIVE_ROOTS` can restrict archives to where disks are mounted.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings

from console.findings import Finding
from console.wording import bytes_human

# What file systems put at the top of a disk; nobody's files.
_NO_CONTENT = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
_NAMES_SHOWN = 3
# Where a computer keeps its system, and where web servers usually find what they serve.
_SYSTEM_NAMES = ("bin", "boot", "dev", "etc", "lib", "lib64", "sbin", "sys", "usr")
_SYSTEM_FOLDERS = tuple(Path("/", name) for name in (*_SYSTEM_NAMES, "var/lib", "var/www"))


@dataclass(frozen=True)
class FolderSurvey:
    """A folder as it is now. `trouble_text` says why it cannot be read."""

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
    # The file system it is on. Another one there later means that the disk was swapped.
    device: int = 0
    is_on_the_disk_of_the_store: bool = False
    trouble_text: str = ""


def survey_folder(text: str) -> FolderSurvey:
    """Return what is at the path that was typed. Changes nothing and raises nothing."""
    typed = Path(text.strip())
    if not typed.is_absolute():
        return FolderSurvey(typed, is_absolute=False)
    try:
        return _survey(typed.resolve())
    except (OSError, RuntimeError) as error:
        return FolderSurvey(typed, trouble_text=getattr(error, "strerror", "") or str(error))


def _survey(path: Path) -> FolderSurvey:
    home = settings.UNDERSTUDY_HOME
    roots = settings.UNDERSTUDY_ARCHIVE_ROOTS
    is_folder = path.is_dir()
    has_parent = path.parent.is_dir()
    # A folder that is yet to be created is judged by its parent.
    holder = path if is_folder else path.parent
    survey = FolderSurvey(
        path,
        is_of_this_core=(
            path.is_relative_to(home)
            or home.is_relative_to(path)
            or path.is_relative_to(settings.BASE_DIR)
        ),
        is_below_a_root=any(path.is_relative_to(root) for root in roots)
        if roots
        else not any(path.is_relative_to(folder.resolve()) for folder in _SYSTEM_FOLDERS),
        has_parent=has_parent,
        is_there=path.exists(),
        is_folder=is_folder,
    )
    if survey.is_of_this_core or not survey.is_below_a_root or not holder.is_dir():
        return survey
    names = sorted(entry.name for entry in path.iterdir()) if is_folder else []
    state = os.statvfs(holder)
    device = holder.stat().st_dev
    return replace(
        survey,
        is_writable=os.access(holder, os.W_OK | os.X_OK),
        is_archive=(path / "machines").is_dir(),
        other_names=tuple(name for name in names if name != "machines" and name not in _NO_CONTENT),
        free_bytes=state.f_bavail * state.f_frsize,
        device=device,
        is_on_the_disk_of_the_store=device == home.stat().st_dev,
    )


def check_new_archive(survey: FolderSurvey, needed_bytes: int) -> list[Finding]:
    """Return the findings about writing so many bytes to an archive there. Pure."""
    findings = list(_folder_findings(survey))
    if findings:
        return findings
    path = survey.path
    if survey.other_names and not survey.is_archive:
        shown = ", ".join(survey.other_names[:_NAMES_SHOWN])
        return [
            Finding.error(
                "ARCHIVE-FOLDER-IN-USE",
                f"{path} already contains other files ({shown}). Enter a new folder "
                f"inside it, such as {path / 'archive'}; it will be created.",
            )
        ]
    if not survey.is_writable:
        return [
            Finding.error(
                "ARCHIVE-NOT-WRITABLE", f"This core has no permission to write to {path}."
            )
        ]
    if survey.free_bytes < needed_bytes:
        return [
            Finding.error(
                "ARCHIVE-TOO-SMALL",
                f"{bytes_human(needed_bytes)} to copy, but only "
                f"{bytes_human(survey.free_bytes)} free at {path}.",
            )
        ]
    if survey.is_on_the_disk_of_the_store:
        text = (
            f"{path} is on the same disk as this core's own files, so it would be lost "
            "with it. Is the archive disk mounted?"
        )
        return [Finding.warning("ARCHIVE-SAME-DISK", text)]
    return []


def check_archive_to_read(survey: FolderSurvey) -> list[Finding]:
    """Return the findings about reading an archive there. Pure."""
    findings = list(_folder_findings(survey))
    if not findings and not survey.is_archive:
        text = f"{survey.path} is not an archive: it contains no recovery points."
        findings.append(Finding.error("ARCHIVE-NONE-THERE", text))
    return findings


def _folder_findings(survey: FolderSurvey) -> list[Finding]:
    path = survey.path
    if not survey.is_absolute:
        text = "Enter the full path of the folder on this core, such as /mnt/usb/archive."
        return [Finding.error("ARCHIVE-PATH-RELATIVE", text)]
    if survey.trouble_text:
        text = f"{path} cannot be read: {survey.trouble_text}."
        return [Finding.error("ARCHIVE-NOT-READABLE", text)]
    if survey.is_of_this_core:
        text = f"{path} belongs to this core's own files. Choose a folder outside of them."
        return [Finding.error("ARCHIVE-PATH-OF-THIS-CORE", text)]
    if not survey.is_below_a_root:
        roots = ", ".join(str(root) for root in settings.UNDERSTUDY_ARCHIVE_ROOTS)
        text = (
            f"On this core, archives must be below {roots}."
            if roots
            else f"{path} is a folder of the system. Choose one where a disk is mounted."
        )
        return [Finding.error("ARCHIVE-PATH-NOT-ALLOWED", text)]
    if survey.is_there and not survey.is_folder:
        return [Finding.error("ARCHIVE-PATH-NO-FOLDER", f"{path} is a file, not a folder.")]
    if not survey.is_there and not survey.has_parent:
        text = f"The folder {path.parent} does not exist on this core. Is the disk mounted?"
        return [Finding.error("ARCHIVE-PATH-MISSING", text)]
    return []
