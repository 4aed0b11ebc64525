"""The `device_mapper` provider: all disks at one instant, while applications keep writing.

The initramfs puts a linear layer under the partitions of every disk (`agent/install/root`). For a
point, the layer becomes the origin of a snapshot whose copy-on-write space is in memory:

    load   disk: snapshot-origin     view: snapshot        both beside the live tables
    freeze file systems, suspend all disks, resume all views, resume all disks, thaw
    read   the views
    load   disk: linear; resume it (the kernel swaps the tables); remove the view and its memory

Nothing is loaded, opened or started between freeze and thaw: that would hang the machine for good.

A watch keeps a view after the point: disk and view keep their tables, and the copy-on-write space
lists everything written since. The next view is made beside it, and both are released together.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.disks import VIEW_PREFIX, FoundDisk, describe_disks, find_disks
from agent.errors import SnapshotFailed, ViewInvalid
from agent.providers import CRASH, FILE_SYSTEM, Disk, DiskView, View
from agent.providers.cow_memory import CowDevice, ensure_modules, memory_for_cow, release_cow
from agent.providers.dm_control import DmControl, Target
from agent.providers.exception_store import changed_grains
from agent.providers.freeze import Mount, OpenMounts, Watchdog, locked_memory
from agent.providers.hold import Hold
from agent.providers.watch import Watch
from agent.reading import open_source
from recovery_store.errors import SourceUnreadable
from recovery_store.vmdk.imaging import read_whole

log = logging.getLogger(__name__)

FREEZE_LIMIT_SECONDS = 20
_CHUNK_SECTORS = 64  # 32 KiB: smaller chunks split every read, larger ones cost memory
_WATCHED_PREFIX = f"{VIEW_PREFIX}watched-"
_SECTOR_BYTES = 512
_REMOVE_SECONDS = 10


@dataclass(frozen=True)
class Kernel:
    """The interfaces of the kernel.

    make_cow(limit_bytes, capacity_bytes): makes a memory device.
    """

    sys_root: Path = Path("/sys")
    dev_root: Path = Path("/dev")
    proc_root: Path = Path("/proc")
    open_control: Callable[[], DmControl] = DmControl
    make_cow: Callable[[int, int], CowDevice] = CowDevice


@dataclass
class _Layered:
    """A disk with its layer, and what a view adds to it."""

    found: FoundDisk
    disk: Disk
    layer: str  # as `view`, the name of a device-mapper device
    view: str
    sectors: int
    cow: CowDevice | None = None
    view_device: str = ""  # kernel name


class DeviceMapperView:
    """The snapshots of all disks."""

    def __init__(
        self,
        control: DmControl,
        layered: Sequence[_Layered],
        not_frozen: Sequence[Mount],
        changed: dict[str, list[tuple[int, int]]],
        dev_root: Path,
    ) -> None:
        self._control = control
        self._layered = layered
        self.consistency = CRASH if not_frozen else FILE_SYSTEM
        self.disks = [
            DiskView(
                entry.disk,
                dev_root / entry.view_device,
                entry.sectors * _SECTOR_BYTES,
                changed.get(entry.layer),
            )
            for entry in layered
        ]

    def check(self) -> None:
        """Check that no copy-on-write space has run out.

        Raises:
            ViewInvalid: one has.
        """
        for entry in self._layered:
            loss = _find_loss(self._control, entry)
            if loss:
                limit_bytes = entry.cow.limit_bytes if entry.cow else 0
                raise ViewInvalid(
                    f"The view of disk {entry.disk.number} ({entry.disk.device}) is lost "
                    f"({loss}): while the disk was read, more was overwritten on the machine "
                    f"than {limit_bytes} bytes of memory can hold. Give the machine more "
                    "memory, raise cow_bytes in agent.json, or take the point at a quieter time."
                )


class _KeptViews:
    """Views that a watch keeps."""

    def __init__(self, layered: Sequence[_Layered], kernel: Kernel) -> None:
        self.layered = layered
        self._kernel = kernel

    def find_loss(self) -> str:
        """Return how the copy-on-write space of a view was lost; empty if none was."""
        with contextlib.closing(self._kernel.open_control()) as control:
            try:
                losses = [_find_loss(control, entry) for entry in self.layered]
            except OSError as error:
                losses = [str(error)]
        return next(
            (f"more was written than its memory can hold ({loss})" for loss in losses if loss), ""
        )

    def is_of(self, layered: Sequence[_Layered]) -> bool:
        """Tell whether these are the views of those disks."""
        return [(entry.layer, entry.disk.key, entry.sectors) for entry in self.layered] == [
            (entry.layer, entry.disk.key, entry.sectors) for entry in layered
        ]

    def release(self) -> None:
        """Remove views and memory."""
        with contextlib.closing(self._kernel.open_control()) as control:
            _release(control, self.layered)


class DeviceMapperProvider:
    """Takes views through the layer over the disks."""

    name = "device_mapper"
    can_watch = True

    def __init__(
        self,
        cow_bytes: int | None = None,
        left_out: Sequence[str] = (),
        kernel: Kernel = Kernel(),
    ) -> None:
        self._cow_bytes = cow_bytes
        self._left_out = left_out
        self._kernel = kernel

    def disks(self) -> list[Disk]:
        """Return the machine's disks."""
        return describe_disks(self._find_disks(), self._kernel.sys_root)

    @contextlib.contextmanager
    def open_view(
        self, hold: Hold | None = None, watch: Watch | None = None, since: Watch | None = None
    ) -> Iterator[View]:
        """Take a view of all disks at one instant.

        hold: takes over the frozen file systems once the views exist.
        watch: takes over the views if they are left without an error.
        since: has kept earlier views; the new ones know what those recorded.

        Raises:
            SnapshotFailed: a disk lacks the layer, memory is short, or the freeze took too long.
        """
        kernel = self._kernel
        ensure_modules(kernel.sys_root)
        layered = self._find_layered(VIEW_PREFIX if watch is None else _WATCHED_PREFIX)
        control = kernel.open_control()
        to_release = list(layered)
        try:
            older = _take_older(since, layered)
            to_release += older
            if not older:
                _clean_up(control, layered, kernel.sys_root)
            mounts = OpenMounts(kernel.proc_root / "self/mountinfo")
            try:
                memory_bytes = memory_for_cow(self._cow_bytes, kernel.proc_root / "meminfo")
                make_cow = partial(kernel.make_cow, memory_bytes // len(layered))
                _prepare(control, layered, make_cow, "N" if watch is None else "P")
                if not older:
                    _prepare_layers(control, layered)
                mounts.open()
                _switch(control, layered, mounts, hold)
            finally:
                if hold is None or not hold.has_taken_over:
                    mounts.close()
            changed = _changed(control, older, since)
            yield DeviceMapperView(control, layered, mounts.not_frozen, changed, kernel.dev_root)
            if watch is not None:
                watch.keep(_KeptViews(layered, kernel))
                to_release = []
        finally:
            try:
                _release(control, to_release)
            finally:
                control.close()

    def clean_up(self) -> None:
        """Release what a killed agent left behind; harmless if there is nothing.

        Raises:
            SnapshotFailed: something cannot be released.
        """
        with contextlib.closing(self._kernel.open_control()) as control:
            _clean_up(control, self._find_layered(VIEW_PREFIX), self._kernel.sys_root)

    def _find_disks(self) -> list[FoundDisk]:
        return find_disks(self._left_out, self._kernel.sys_root, self._kernel.dev_root)

    def _find_layered(self, view_prefix: str) -> list[_Layered]:
        found = self._find_disks()
        bare = [disk.name for disk in found if disk.layer_name is None]
        if bare or not found:
            raise SnapshotFailed(
                f"The layer is missing on {', '.join(bare) or 'every disk'}: restart the machine "
                "once with the agent installed, or add disks that no point needs to "
                "left_out_disks in agent.json."
            )
        return [
            _Layered(
                found=entry,
                disk=disk,
                layer=_layer_name(entry, self._kernel.sys_root),
                view=f"{view_prefix}{entry.name}",
                sectors=entry.capacity_bytes // _SECTOR_BYTES,
            )
            for entry, disk in zip(found, describe_disks(found, self._kernel.sys_root))
        ]


def _layer_name(disk: FoundDisk, sys_root: Path) -> str:
    return (sys_root / "block" / (disk.layer_name or "") / "dm/name").read_text().strip()


def _linear(entry: _Layered) -> Target:
    return Target(0, entry.sectors, "linear", f"{entry.found.numbers} 0")


def _prepare(
    control: DmControl,
    layered: Sequence[_Layered],
    make_cow: Callable[[int], CowDevice],
    store: str,
) -> None:
    """Make the memory and the views beside the live tables.

    store: "P" keeps a list of later writes in the memory; "N" keeps it in the kernel only.
    """
    try:
        for entry in layered:
            entry.cow = make_cow(entry.sectors * _SECTOR_BYTES)
            origin = entry.found.numbers
            entry.view_device = control.create(entry.view)
            parameters = f"{origin} {entry.cow.numbers} {store} {_CHUNK_SECTORS}"
            control.load(entry.view, Target(0, entry.sectors, "snapshot", parameters))
    except OSError as error:
        raise SnapshotFailed(f"Preparing the view of the disks: {error}") from error


def _prepare_layers(control: DmControl, layered: Sequence[_Layered]) -> None:
    """Load the disks' new tables beside the live ones; watched disks already have them.

    Raises:
        SnapshotFailed: the kernel refuses.
    """
    try:
        for entry in layered:
            numbers = entry.found.numbers
            control.load(entry.layer, Target(0, entry.sectors, "snapshot-origin", numbers))
    except OSError as error:
        raise SnapshotFailed(f"Preparing the disks for their views: {error}") from error


def _take_older(since: Watch | None, layered: Sequence[_Layered]) -> Sequence[_Layered]:
    """Return the views that a watch has kept; release them if the disks are different ones."""
    kept = since.take() if since is not None else None
    if since is None or not isinstance(kept, _KeptViews):
        return []
    if not kept.is_of(layered):
        since.ended_because = "the machine's disks are not those that were watched"
        kept.release()
        return []
    return kept.layered


def _changed(
    control: DmControl, older: Sequence[_Layered], since: Watch | None
) -> dict[str, list[tuple[int, int]]]:
    """Return what was written since the older views, by layer; nothing if a part is unknown.

    Writes from now on may or may not be included, since the new views do not contain them.
    """
    try:
        return {entry.layer: _changed_of(control, entry) for entry in older}
    except (SnapshotFailed, SourceUnreadable, OSError) as error:
        log.warning("changes not known reason=%s", error)
        if since is not None:
            since.ended_because = str(error)
        return {}


def _changed_of(control: DmControl, entry: _Layered) -> list[tuple[int, int]]:
    if entry.cow is None:
        raise ViewInvalid(f"The view {entry.view} has no memory")
    # Before the check for a loss: if nothing is lost by then, the list was complete.
    with open_source(entry.cow.path) as (descriptor, read):
        changed = changed_grains(
            read or partial(read_whole, descriptor),
            entry.cow.size_bytes,
            _CHUNK_SECTORS,
            entry.sectors * _SECTOR_BYTES,
        )
    loss = _find_loss(control, entry)
    if loss:
        raise ViewInvalid(f"more was written than its memory can hold ({loss})")
    return changed


def _find_loss(control: DmControl, entry: _Layered) -> str:
    """Return the kernel's word for how a view was lost; empty if it was not."""
    words = " ".join(target.parameters for target in control.status(entry.view))
    return "" if re.fullmatch(r"\d+/\d+ \d+", words) else words.lower()


def _switch(
    control: DmControl, layered: Sequence[_Layered], mounts: OpenMounts, hold: Hold | None
) -> None:
    """Start all views at one instant; then thaw, or let the hold keep the file systems frozen."""

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
    """Restore the disks' linear tables, then remove views and memory.

    Raises:
        SnapshotFailed: something could not be released; everything else was.
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
    else:
        control.load(entry.layer, _linear(entry))
    # One call: the kernel suspends, swaps and resumes, so nothing can be left suspended. It also
    # resumes a disk that a failed switch left suspended.
    control.resume(entry.layer)


def _remove_view(control: DmControl, view: str) -> None:
    """Remove a view, which udev may have open for a moment."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while control.exists(view):
        try:
            control.remove(view)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _clean_up(control: DmControl, layered: Sequence[_Layered], sys_root: Path) -> None:
    """Release what a killed agent left behind.

    Raises:
        SnapshotFailed: something cannot be released.
    """
    try:
        for entry in layered:
            _restore_layer(control, entry)
            for view in (
                f"{VIEW_PREFIX}{entry.found.name}",
                f"{_WATCHED_PREFIX}{entry.found.name}",
            ):
                _remove_leftover(control, view, sys_root)
    except OSError as error:
        raise SnapshotFailed(f"Releasing what an earlier view left behind: {error}") from error


def _remove_leftover(control: DmControl, view: str, sys_root: Path) -> None:
    if not control.exists(view):
        return
    log.warning("leftover view removed name=%s", view)
    tables = control.table(view) + control.loaded_table(view)
    _remove_view(control, view)
    for target in tables:
        number = _cow_number(target.parameters, sys_root)
        if number is not None:
            release_cow(number, sys_root)


def _cow_number(parameters: str, sys_root: Path) -> int | None:
    """Return the number of the memory device in a snapshot's table."""
    for numbers in parameters.split()[1:2]:
        link = sys_root / "dev/block" / numbers
        match = re.fullmatch(r"zram(\d+)", link.resolve().name)
        if match:
            return int(match[1])
    return None
