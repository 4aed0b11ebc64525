"""Read `db-01`'s journal out of a recovery point, with tools that know nothing of this project."""

import hashlib
import json
import subprocess
from pathlib import Path


def read_journal(exported_vmdk: Path) -> list[str]:
    """Return the lines of the file `journal` in the first partition of an exported disk.

    qemu-img makes it a raw image, sfdisk finds the partition, and e2fsck must find the ext4 file
    system clean once its own journal has been played back.
    """
    raw = exported_vmdk.with_suffix(".raw")
    _run("qemu-img", "convert", "-O", "raw", str(exported_vmdk), str(raw))
    table = json.loads(_run("sfdisk", "--json", str(raw)))["partitiontable"]
    first = table["partitions"][0]
    sector_bytes = table.get("sectorsize", 512)
    file_system = exported_vmdk.with_suffix(".ext4")
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
    lines = _run("debugfs", "-R", "cat /journal", str(file_system)).splitlines()
    for leftover in (raw, file_system):
        leftover.unlink()
    return lines


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
