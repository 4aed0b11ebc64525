"""The `device_mapper` provider: one instant over all disks, applications keep writing.

Since the initramfs every disk has a linear layer under its partitions (`agent/install/root`). For
a point the layer becomes the origin of a snapshot, whose copy-on-write space is in memory:

    load   disk: snapshot-origin     view: snapshot        both beside the live tables
    freeze file systems, suspend all disks, resume all views, resume all disks, thaw
    read   the views
    load   disk: linear; resume it (the kernel swaps the tables by itself); remove view and memory

Nothing is loaded, opened or started between freeze and thaw. That hangs a machine for good.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.disks import VIEW_PREFIX, FoundDisk, describe_disks, find_disks
from agent.errors import SnapshotFailed, ViewInvalid
from agent.providers import CRASH, FILE_SYSTEM, Disk, DiskView, View
from agent.providers.cow_memory import CowDevice, ensure_modules, memory_for_cow, release_cow
from agent.providers.dm_control import DmControl, Target
from agent.providers.freeze import Mount, OpenMounts, Watchdog, locked_memory
from agent.providers.hold import Hold

log = logging.getLogger(__name__)

FREEZE_LIMIT_SECONDS = 20
_CHUNK_SECTORS = 64  # 32 KiB: smaller ones cut every read into pieces, larger ones cost memory
_SECTOR_BYTES = 512
_REMOVE_SECONDS = 10


@dataclass
class _Layered:
    """A disk under the layer, and what a view adds to it."""

    found: FoundDisk
    disk: Disk
    layer: str  # names of device-mapper devices
    view: str
    sectors: int
    cow: CowDevice | None = None
    view_device: str = ""  # kernel name


class DeviceMapperView:
    """The snapshots of all disks."""

    def __init__(
        self, control: DmControl, layered: Sequence[_Layered], not_frozen: Sequence[Mount]
    ) -> None:
        self._control = control
        self._layered = layered
        self.consistency = CRASH if not_frozen else FILE_SYSTEM
        self.disks = [
            DiskView(entry.disk, Path("/dev") / entry.view_device, entry.sectors * _SECTOR_BYTES)
            for entry in layered
        ]

    def check(self) -> None:
        """Make sure that no copy-on-write space has run out.

        Raises:
            ViewInvalid: it has.
        """
        for entry in self._layered:
            words = " ".join(target.parameters for target in self._control.status(entry.view))
            if not re.fullmatch(r"\d+/\d+ \d+", words):
                limit_bytes = entry.cow.limit_bytes if entry.cow else 0
                raise ViewInvalid(
                    f"The view of disk {entry.disk.number} ({entry.disk.device}) is lost "
                    f"({words.lower()}): more was overwritten on the machine, while the disk was "
                    f"read, than {limit_bytes} bytes of memory can hold. Give the machine more "
                    "memory, raise cow_bytes in agent.json, or take the point at a calmer time."
                )


class DeviceMapperProvider:
    """Takes views through the layer under the disks."""

    name = "device_mapper"

    def __init__(self, cow_bytes: int | None = None, left_out: Sequence[str] = ()) -> None:
        self._cow_bytes = cow_bytes
        self._left_out = left_out

    def disks(self) -> list[Disk]:
        """Return the machine's disks."""
        return describe_disks(find_disks(self._left_out))

    @contextlib.contextmanager
    def open_view(self, hold: Hold | None = None) -> Iterator[View]:
        """Take a view of all disks at one instant.

        hold: takes the file systems over frozen, as soon as the views stand.

        Raises:
            SnapshotFailed: a disk lacks the layer, memory is short, or the freeze took too long.
        """
        ensure_modules()
        layered = self._find_layered()
        control = DmControl()
        try:
            clean_up(control, layered)
            mounts = OpenMounts()
            try:
                _prepare(control, layered, memory_for_cow(self._cow_bytes))
                mounts.open()
                _switch(control, layered, mounts, hold)
            finally:
                if hold is None or not hold.has_taken_over:
                    mounts.close()
            yield DeviceMapperView(control, layered, mounts.not_frozen)
        finally:
            try:
                _release(control, layered)
            finally:
                control.close()

    def clean_up(self) -> None:
        """Release what an agent that was killed has left; harmless when nothing is left.

        Raises:
            SnapshotFailed: something cannot be released.
        """
        control = DmControl()
        try:
            clean_up(control, self._find_layered())
        finally:
            control.close()

    def _find_layered(self) -> list[_Layered]:
        found = find_disks(self._left_out)
        bare = [disk.name for disk in found if disk.layer_name is None]
        if bare or not found:
            raise SnapshotFailed(
                f"The layer is missing under {', '.join(bare) or 'every disk'}: restart the "
                "machine once with the agent installed, or name a disk that no point needs in "
                "left_out_disks of agent.json."
            )
        return [
            _Layered(
                found=entry,
                disk=disk,
                layer=_layer_name(entry),
                view=f"{VIEW_PREFIX}{entry.name}",
                sectors=entry.capacity_bytes // _SECTOR_BYTES,
            )
            for entry, disk in zip(found, describe_disks(found))
        ]


def _layer_name(disk: FoundDisk) -> str:
    return (Path("/sys/block") / (disk.layer_name or "") / "dm/name").read_text().strip()


def _linear(entry: _Layered) -> Target:
    return Target(0, entry.sectors, "linear", f"{entry.found.numbers} 0")


def _prepare(control: DmControl, layered: Sequence[_Layered], memory_bytes: int) -> None:
    """Make memory, views and tables, all of them beside what is live."""
    try:
        for entry in layered:
            entry.cow = CowDevice(memory_bytes // len(layered), entry.sectors * _SECTOR_BYTES)
            origin = entry.found.numbers
            entry.view_device = control.create(entry.view)
            parameters = f"{origin} {entry.cow.numbers} N {_CHUNK_SECTORS}"
            control.load(entry.view, Target(0, entry.sectors, "snapshot", parameters))
            control.load(entry.layer, Target(0, entry.sectors, "snapshot-origin", origin))
    except OSError as error:
        raise SnapshotFailed(f"Preparing the view of the disks: {error}") from error


def _switch(
    control: DmControl, layered: Sequence[_Layered], mounts: OpenMounts, hold: Hold | None
) -> None:
    """Make the views begin, all at one instant; thaw then, or let the hold keep what is frozen."""

    def rescue() -> None:
        for entry in layered:
            with contextlib.suppress(OSError):
                control.resume(entry.layer)
        mounts.thaw_all()

    watchdog = Watchdog(hold.limit_seconds if hold else FREEZE_LIMIT_SECONDS, rescue)
    started_at = time.monotonic()
    try:
        with locked_memory():
            mounts.freeze()
            try:
                _switch_frozen(control, layered)
                if hold is not None:
                    hold.keep(mounts, watchdog)
            finally:
                if hold is None or not hold.has_taken_over:
                    mounts.thaw()
    finally:
        if hold is None or not hold.has_taken_over:
            watchdog.stand_down()
    log.info(
        "disks switched disks=%d frozen_seconds=%.2f not_frozen=%s",
        len(layered),
        time.monotonic() - started_at,
        ",".join(mount.path for mount in mounts.not_frozen) or "-",
    )


def _switch_frozen(control: DmControl, layered: Sequence[_Layered]) -> None:
    suspended: list[_Layered] = []
    failures: list[OSError] = []
    try:
        for entry in layered:
            control.suspend(entry.layer)
            suspended.append(entry)
        for entry in layered:
            control.resume(entry.view)
    except OSError as error:
        failures.append(error)
    finally:
        for entry in suspended:
            try:
                control.resume(entry.layer)
            except OSError as error:
                failures.append(error)
    if failures:
        raise SnapshotFailed(f"Switching the disks to their views: {failures[0]}")


def _release(control: DmControl, layered: Sequence[_Layered]) -> None:
    """Give the disks their linear tables back, then remove views and memory.

    Raises:
        SnapshotFailed: something could not be released; everything was tried.
    """
    failures: list[Exception] = []
    for entry in layered:
        try:
            _restore_layer(control, entry)
            _remove_view(control, entry.view)
        except OSError as error:
            failures.append(error)
        if entry.cow is not None:
            try:
                entry.cow.release()
            except SnapshotFailed as error:
                failures.append(error)
    if failures:
        raise SnapshotFailed(f"Releasing the view of the disks: {failures[0]}")


def _restore_layer(control: DmControl, entry: _Layered) -> None:
    kinds = {target.kind for target in control.table(entry.layer)}
    if kinds == {"linear"}:
        control.clear(entry.layer)
        return
    control.load(entry.layer, _linear(entry))
    # One call: the kernel suspends, swaps and resumes, so nothing can be left suspended.
    control.resume(entry.layer)


def _remove_view(control: DmControl, view: str) -> None:
    """Remove a view; udev may have it open for a moment."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while control.exists(view):
        try:
            control.remove(view)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def clean_up(control: DmControl, layered: Sequence[_Layered]) -> None:
    """Release what an agent that was killed has left.

    Raises:
        SnapshotFailed: something cannot be released.
    """
    try:
        for entry in layered:
            _restore_layer(control, entry)
            if not control.exists(entry.view):
                continue
            log.warning("leftover view removed name=%s", entry.view)
            tables = control.table(entry.view) + control.loaded_table(entry.view)
            _remove_view(control, entry.view)
            for target in tables:
                number = _cow_number(target.parameters)
                if number is not None:
                    release_cow(number)
    except OSError as error:
        raise SnapshotFailed(f"Releasing what an earlier view has left: {error}") from error


def _cow_number(parameters: str) -> int | None:
    """Return the number of the memory device in a snapshot's table."""
    for numbers in parameters.split()[1:2]:
        link = Path("/sys/dev/block") / numbers
        match = re.fullmatch(r"zram(\d+)", link.resolve().name)
        if match:
            return int(match[1])
    return None
