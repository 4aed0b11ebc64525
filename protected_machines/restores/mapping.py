"""Which disk of a recovery point goes onto which disk of a rescue machine. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.client.description import DescribedDisk, MachineDescription
from agent.client.restoring import match_disks
from agent.errors import (
    DiskTooSmall,
    RestoreRefused,
)
from console.findings import Finding, errors_first, has_errors
from protected_machines.choices import PointState
from protected_machines.models import RecoveryPoint
from protected_machines.models.descriptions import read_description
from recovery_store.manifest import Manifest


@dataclass(frozen=True)
class DiskPair:
    """One disk of a point and the disk of the rescue machine that it is written to."""

    number: int
    capacity_bytes: int
    target_number: int
    target_device: str
    target_capacity_bytes: int
    # What is on the disk now, in words; empty when it is blank.
    content: str


@dataclass(frozen=True)
class DiskMapping:
    """Which disk goes onto which, and the findings."""

    pairs: Sequence[DiskPair]
    findings: Sequence[Finding]

    @property
    def has_errors(self) -> bool:
        return has_errors(self.findings)

    @property
    def overwritten(self) -> list[DiskPair]:
        """The disks that are not blank."""
        return [pair for pair in self.pairs if pair.content]


def map_disks(
    manifest: Manifest, target: MachineDescription, point: RecoveryPoint | None = None
) -> DiskMapping:
    """Return which disk goes where and the findings, errors first. Pure."""
    findings = list(_point_findings(point)) if point is not None else []
    findings += _firmware_findings(read_description(manifest.description), target)
    by_number = {disk.number: disk for disk in target.disks}
    pairs: list[DiskPair] = []
    try:
        numbers = match_disks([disk.capacity_bytes for disk in manifest.disks], target)
    except (DiskTooSmall, RestoreRefused) as error:
        findings.append(Finding.error(error.code, str(error)))
    else:
        pairs = [
            _pair(disk.number, disk.capacity_bytes, by_number[number])
            for disk, number in zip(manifest.disks, numbers, strict=True)
        ]
    if any(pair.content for pair in pairs):
        texts = ", ".join(f"{pair.target_device}: {pair.content}" for pair in pairs if pair.content)
        text = f"The disks are not blank. Everything on them will be overwritten ({texts})."
        findings.append(Finding.warning("RESTORE-NOT-BLANK", text))
    return DiskMapping(pairs, errors_first(findings))


def _pair(number: int, capacity_bytes: int, target: DescribedDisk) -> DiskPair:
    return DiskPair(
        number=number,
        capacity_bytes=capacity_bytes,
        target_number=target.number,
        target_device=target.device or f"disk {target.number}",
        target_capacity_bytes=target.capacity_bytes,
        content=target.holds,
    )


def _point_findings(point: RecoveryPoint) -> Iterator[Finding]:
    if point.state == PointState.DAMAGED:
        text = f"The recovery point is damaged: {point.damage_text}. Choose another."
        yield Finding.error("RESTORE-POINT-DAMAGED", text)
    elif point.state == PointState.UNPROVEN:
        text = (
            "The recovery point has not been proven yet. It is proven before anything is written."
        )
        yield Finding.warning("RESTORE-POINT-UNPROVEN", text)


def _firmware_findings(point: MachineDescription, target: MachineDescription) -> Iterator[Finding]:
    wanted, there = point.firmware, target.firmware
    if wanted and there and wanted != there:
        text = (
            f"This machine boots by {wanted.upper()}, but the rescue machine was "
            f"started by {there.upper()}. Change that in its firmware settings, or the "
            "restored machine may not boot."
        )
        yield Finding.warning("RESTORE-OTHER-FIRMWARE", text)
    if wanted == "efi":
        text = (
            "This machine boots by EFI. Boot entries are stored in the computer, not on "
            "its disks. To boot on another computer, the disk must contain the fallback "
            "loader EFI/BOOT/BOOTX64.EFI."
        )
        yield Finding.warning("RESTORE-EFI-BOOT-ENTRIES", text)
