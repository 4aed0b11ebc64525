"""Make bootable disks from folders, without mounts or loop devices.

A boot disk is a FAT partition with syslinux, kernel and initial RAM disk, and an ext4 root. A data
disk is one ext4 partition. Both are raw files with holes.
"""

import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from rescue_medium.commands import run_command

SECTOR_BYTES = 512
MIB = 1024 * 1024
FIRST_PARTITION_BYTES = 1 * MIB
BOOT_PARTITION_BYTES = 47 * MIB
MASTER_BOOT_RECORD = Path("/usr/lib/syslinux/mbr/mbr.bin")
SYSLINUX_CONFIGURATION = """\
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  LINUX vmlinuz
  INITRD initrd.img
  APPEND {arguments}
"""


@dataclass(frozen=True)
class BootFiles:
    """The content of the boot partition."""

    kernel: Path
    initial_ram_disk: Path
    arguments: str


def make_boot_disk(
    path: Path, length_bytes: int, root_tree: Path, root_uuid: uuid.UUID, boot: BootFiles
) -> None:
    """Make a disk that a BIOS boots, with `root_tree` as its root file system."""
    root_at_bytes = FIRST_PARTITION_BYTES + BOOT_PARTITION_BYTES
    _make_blank(path, length_bytes)
    _partition(
        path,
        f"start={_sectors(FIRST_PARTITION_BYTES)}, size={_sectors(BOOT_PARTITION_BYTES)}, "
        "type=0e, bootable\n"
        f"start={_sectors(root_at_bytes)}, type=83\n",
    )
    _write_at(path, 0, MASTER_BOOT_RECORD.read_bytes()[:440])
    _make_boot_partition(path, boot)
    _make_ext4(path, root_at_bytes, length_bytes - root_at_bytes, "root", root_uuid, root_tree)


def make_data_disk(path: Path, length_bytes: int, data_uuid: uuid.UUID) -> None:
    """Make a disk with one partition, an empty ext4 file system."""
    _make_blank(path, length_bytes)
    _partition(path, f"start={_sectors(FIRST_PARTITION_BYTES)}, type=83\n")
    partition_bytes = length_bytes - FIRST_PARTITION_BYTES
    _make_ext4(path, FIRST_PARTITION_BYTES, partition_bytes, "data", data_uuid, None)


def _sectors(count_bytes: int) -> int:
    return count_bytes // SECTOR_BYTES


def _make_blank(path: Path, length_bytes: int) -> None:
    with path.open("wb") as disk:
        disk.truncate(length_bytes)


def _partition(path: Path, script: str) -> None:
    run_command("sfdisk", "--quiet", path, input_text=f"label: dos\n{script}")


def _write_at(path: Path, offset_bytes: int, data: bytes) -> None:
    with path.open("r+b") as disk:
        disk.seek(offset_bytes)
        disk.write(data)


def _make_boot_partition(path: Path, boot: BootFiles) -> None:
    place = f"{path}@@{FIRST_PARTITION_BYTES}"
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as configuration:
        configuration.write(SYSLINUX_CONFIGURATION.format(arguments=boot.arguments))
        configuration.flush()
        run_command(
            "mformat",
            *("-i", place, "-v", "BOOT", "-c", "4"),
            *("-T", str(_sectors(BOOT_PARTITION_BYTES)), "-h", "255", "-s", "63"),
            *("-H", str(_sectors(FIRST_PARTITION_BYTES)), "::"),
        )
        run_command("mcopy", "-i", place, boot.kernel, "::vmlinuz")
        run_command("mcopy", "-i", place, boot.initial_ram_disk, "::initrd.img")
        run_command("mcopy", "-i", place, configuration.name, "::syslinux.cfg")
    run_command("syslinux", "--install", "--offset", str(FIRST_PARTITION_BYTES), path)


def _make_ext4(
    path: Path,
    offset_bytes: int,
    partition_bytes: int,
    label: str,
    file_system_uuid: uuid.UUID,
    tree: Path | None,
) -> None:
    run_command(
        "mke2fs",
        *(
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-m",
            "1",
            # Bytes per inode: few inodes, since every base image reads their tables.
            "-i",
            "32768",
            "-L",
            label,
            "-U",
            str(file_system_uuid),
        ),
        *("-J", "size=8"),
        "-E",
        f"offset={offset_bytes},nodiscard,lazy_itable_init=0,lazy_journal_init=0",
        *(() if tree is None else ("-d", tree)),
        path,
        f"{partition_bytes // 4096}",
        environment={**os.environ, "MKE2FS_SYNC": "0"},
        limit_seconds=300,
    )
