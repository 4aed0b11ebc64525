"""Read `db-01`'s journal out of a recovery point, with tools that know nothing of this project."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.story.two_sites import Lab

DISK_NUMBER = 1


def journal_of_point(lab: Lab, site: str, point_id: str, folder: Path) -> list[str]:
    """Return the records that one site's store holds in a point, each looked at."""
    vmdk = folder / f"{site}-{point_id}.vmdk"
    lab.command(
        *("-m", "recovery_store", "export", lab.store(site), point_id, str(DISK_NUMBER), str(vmdk))
    )
    records = read_journal(vmdk)
    vmdk.unlink()
    check_journal(records)
    return records


def check_goes_on(before: list[str], after: list[str]) -> None:
    """Assert that a later journal has every record of an earlier one, and new ones."""
    assert before, "the journal is empty"
    assert after[: len(before)] == before, "records of before are missing or others"
    assert len(after) > len(before), "nothing was written since"


def read_journal(disk: Path) -> list[str]:
    """Return the lines of the file `journal` in the first partition of a disk's image.

    qemu-img makes it a raw image, sfdisk finds the partition, and e2fsck must find the ext4 file
    system clean once its own journal has been played back.
    """
    scratch = Path(tempfile.mkdtemp(prefix="journal-"))
    try:
        return _read_journal(disk, scratch)
    finally:
        shutil.rmtree(scratch)


def _read_journal(disk: Path, scratch: Path) -> list[str]:
    raw, file_system = scratch / "disk.raw", scratch / "partition.ext4"
    _run("qemu-img", "convert", "-O", "raw", str(disk), str(raw))
    table = json.loads(_run("sfdisk", "--json", str(raw)))["partitiontable"]
    first = table["partitions"][0]
    sector_bytes = table.get("sectorsize", 512)
    _run(
        "dd",
        f"if={raw}",
        f"of={file_system}",
        f"bs={sector_bytes}",
        f"skip={first['start']}",
        f"count={first['size']}",
        "conv=sparse",
        "status=none",
    )
    # Exit 1: errors corrected, which playing back the journal of a frozen file system is.
    checked = subprocess.run(
        ["e2fsck", "-p", str(file_system)], capture_output=True, text=True, timeout=300, check=False
    )
    assert checked.returncode in (0, 1), checked.stdout + checked.stderr
    return _run("debugfs", "-R", "cat /journal", str(file_system)).splitlines()


def check_journal(lines: list[str]) -> None:
    """Assert that the records are numbered from 1 without a gap and each digest is right.

    The digest of line n is the SHA-256 of the digest before it, n and the time, joined by spaces.
    """
    previous = ""
    for number, line in enumerate(lines, start=1):
        written_number, time, digest = line.split(" ")
        assert int(written_number) == number, f"line {number} says {written_number}"
        expected = hashlib.sha256(f"{previous} {number} {time}".encode()).hexdigest()
        assert digest == expected, f"line {number} is damaged"
        previous = digest


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
