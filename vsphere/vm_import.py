"""Imports a machine, completely or not at all.

The protocol sets the order: ImportVApp, wait for the lease, send every disk while Progress keeps
the lease alive, compare what the host received, Complete. If anything fails, the lease is aborted
and any machine left with our marker is removed. There is no resume: when a lease ends, the server
drops its files.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from vsphere.addresses import match_disks, upload_address
from vsphere.api import vim, vmodl
from vsphere.calls import Calls
from vsphere.errors import (
    DigestDiffers,
    DisksUnmatched,
    LeaseLost,
    SpecRefused,
    UploadCut,
    UploadRefused,
    VmBusy,
    VmMissing,
    VSphereError,
)
from vsphere.faults import FAILED_CALL
from vsphere.keep_alive import KeepAlive
from vsphere.lease import Lease
from vsphere.machine import VmIdentity, find_vm, get_vm
from vsphere.properties import read
from vsphere.site import network_backing, read_site, require_site
from vsphere.spec import (
    COMPLETE_KEY,
    MAX_STREAM_BYTES,
    DiskSlot,
    DiskUpload,
    Placement,
    VmSpec,
    assign_slots,
    build_config,
    check_spec,
    choose_guest_id,
    choose_hardware_version,
)
from vsphere.tasks import wait_for_task
from vsphere.upload import Sender, UploadLine, Uploads, running

log = logging.getLogger(__name__)

ProgressReport = Callable[[int, int], None]

NOTE_SECONDS = 120
CLEAN_UP_SECONDS = 60  # altogether; a cancelled job waits for it
CLEAN_UP_CALL_SECONDS = 10
TICK_SECONDS = 0.1
ADVANCE_SECONDS = 1


def import_vm(
    calls: Calls,
    spec: VmSpec,
    disks: Sequence[DiskUpload],
    placement: Placement,
    marker: str,
    progress: ProgressReport,
    check_cancel: Callable[[], None],
    line: UploadLine,
    note: Callable[[str], None],
) -> str:
    """See `Session.import_vm`."""
    doing = f"Import {spec.name}"
    _check_disks(doing, spec, disks)
    check_cancel()
    request = calls.reading(
        doing, lambda content: _prepare(content, doing, spec, placement, marker)
    )
    started = time.monotonic()
    importing = _Import(calls, doing, spec, disks, marker, progress, check_cancel, note)
    try:
        moid = importing.run(request, line)
    except BaseException as error:
        importing.clean_up(error)
        raise
    log.info(
        "vsphere imported vm=%s name=%s bytes=%d seconds=%.1f",
        moid,
        spec.name,
        importing.total_bytes,
        time.monotonic() - started,
    )
    return moid


def _check_disks(doing: str, spec: VmSpec, disks: Sequence[DiskUpload]) -> None:
    check_spec(spec)
    if sorted(disk.number for disk in disks) != sorted(disk.number for disk in spec.disks):
        raise SpecRefused(f"{doing}: the streams to send do not match the machine's disks.")
    for disk in disks:
        if not 0 < disk.length_bytes < MAX_STREAM_BYTES:
            raise SpecRefused(
                f"{doing}: disk {disk.number} takes {disk.length_bytes:,} bytes compressed; a "
                "stream must be smaller than 2 TiB."
            )


@dataclass(frozen=True)
class _Request:
    """The arguments of ImportVApp, gathered without changing anything."""

    config: Any
    pool: Any
    folder: Any
    host: Any


def _prepare(content: Any, doing: str, spec: VmSpec, placement: Placement, marker: str) -> _Request:
    site = require_site(read_site(content, placement), doing)
    backings = [network_backing(content, nic.network, doing) for nic in spec.nics]
    hardware_version = choose_hardware_version(site.able_versions())
    known_guests = _known_guests(content, site.compute, hardware_version)
    config = build_config(
        spec,
        datastore_name=site.of["datastore"]["name"],
        nic_backings=backings,
        marker=marker,
        hardware_version=hardware_version,
        guest_id=choose_guest_id(spec.guest_id, known_guests),
    )
    return _Request(
        config=config,
        pool=site.objects["resource_pool"],
        folder=site.objects.get("folder"),
        host=site.objects.get("host"),
    )


def _known_guests(content: Any, compute: Any, hardware_version: str) -> list[str]:
    """Return the guest ids of that hardware version that are supported; empty if nobody says.

    The answer is long and full of what newer servers add. It is only nice to know, so no failure
    of this question stops an import.
    """
    try:
        browser = read(content, compute, ("environmentBrowser",)).get("environmentBrowser")
        option = browser.QueryConfigOption(key=hardware_version, host=None) if browser else None
    except vim.fault.NotAuthenticated:
        raise
    except FAILED_CALL as error:
        log.warning("vsphere guest ids unknown compute=%s error=%s", compute._moId, error)
        return []
    return [one.id for one in (option.guestOSDescriptor or ())] if option else []


@dataclass
class _Import:
    """An import under way, with what is needed to clean up after it."""

    calls: Calls
    doing: str
    spec: VmSpec
    disks: Sequence[DiskUpload]
    marker: str
    progress: ProgressReport
    check_cancel: Callable[[], None]
    note: Callable[[str], None]
    may_have_begun: bool = False
    lease: Lease | None = None
    made: VmIdentity | None = None
    awaited_host: str = ""

    @property
    def total_bytes(self) -> int:
        return sum(disk.length_bytes for disk in self.disks)

    def run(self, request: _Request, line: UploadLine) -> str:
        slots = assign_slots(self.spec.disks)
        self.lease = lease = self._begin(request)
        info = lease.wait_until_ready(self.check_cancel)
        self.made = VmIdentity(moid := str(info.entity._moId))
        urls = match_disks(self.doing, info.deviceUrl or (), self.spec.disks, slots)
        senders = [
            Sender(*upload_address(urls[disk.number], self.calls.door), disk) for disk in self.disks
        ]
        with lease.keep_alive() as keep_alive:
            with running(senders, line) as uploads:
                self._watch(lease, senders, uploads, keep_alive)
            self._compare(lease.manifest(), senders, urls)
            self.check_cancel()
            lease.complete()
        self._verify(moid, slots)
        self._mark_complete(moid)
        self.progress(self.total_bytes, self.total_bytes)
        return moid

    def _begin(self, request: _Request) -> Lease:
        self.may_have_begun = True
        try:
            managed = self.calls.writing(
                self.doing,
                lambda stub: type(request.pool)(request.pool._moId, stub).ImportVApp(
                    spec=vim.vm.VmImportSpec(configSpec=request.config),
                    folder=request.folder,
                    host=request.host,
                ),
            )
        except VSphereError as error:
            # A refusal proves that nothing was made; a broken connection does not.
            self.may_have_begun = not isinstance(error.__cause__, vmodl.MethodFault)
            raise
        return Lease(self.calls, self.doing, managed)

    def _watch(
        self,
        lease: Lease,
        senders: Sequence[Sender],
        uploads: Uploads,
        keep_alive: KeepAlive,
    ) -> None:
        """Have the disks sent; raise the first error while others are still being sent."""
        advance_at_seconds = 0.0
        while not uploads.is_over:
            if uploads.has_ended_one or time.monotonic() >= advance_at_seconds:
                uploads.advance()
                self._tell_line(uploads.awaited_host)
                advance_at_seconds = time.monotonic() + ADVANCE_SECONDS
            running_now = [future for future in uploads.futures if not future.done()]
            if running_now:
                wait(running_now, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            elif not uploads.is_over and not uploads.has_ended_one:
                time.sleep(TICK_SECONDS)
            self.check_cancel()
            _raise_first_error(lease, uploads.futures, keep_alive)
            sent_bytes = sum(sender.sent_bytes for sender in senders)
            keep_alive.percent = min(99, 100 * sent_bytes // max(1, self.total_bytes))
            self.progress(sent_bytes, self.total_bytes)

    def _tell_line(self, awaited_host: str) -> None:
        """Say that the import waits in line, and that it no longer does."""
        if awaited_host == self.awaited_host:
            return
        self.awaited_host = awaited_host
        if awaited_host:
            self.note(f"Waiting in line: {awaited_host} is receiving two other disks.")
        else:
            self.note("Sending the disks.")

    def _compare(
        self, manifest: Mapping[str, Any], senders: Sequence[Sender], urls: Mapping[int, Any]
    ) -> None:
        """Compare what the host says it received with what was sent."""
        for sender in senders:
            url = urls[sender.upload.number]
            entry = manifest.get(url.key) or manifest.get(url.importKey)
            if entry is None:
                log.warning(
                    "vsphere gives no digest name=%s disk=%d", self.spec.name, sender.upload.number
                )
                continue
            digest = (entry.sha1 or "").lower()
            if entry.size != sender.sent_bytes or (digest and digest != sender.sha1):
                raise DigestDiffers(
                    f"{sender.doing}: the host received {entry.size:,} bytes with SHA-1 {digest}, "
                    f"but {sender.sent_bytes:,} with {sender.sha1} were sent. Check the network."
                )

    def _verify(self, moid: str, slots: Mapping[int, DiskSlot]) -> None:
        """Read the machine's disks back and check that each has its slot and size."""
        try:
            found = get_vm(self.calls, moid).hardware().disks
        except VmMissing as error:
            raise LeaseLost(
                f"{self.doing}: the server ended the import during its completion. Try again."
            ) from error
        by_slot: dict[DiskSlot | None, int] = {disk.slot: disk.capacity_bytes for disk in found}
        for disk in self.spec.disks:
            slot = slots[disk.number]
            if by_slot.get(slot) != disk.capacity_bytes:
                raise DisksUnmatched(
                    f"{self.doing}: disk {disk.number} at {slot.import_name} should have "
                    f"{disk.capacity_bytes:,} bytes but has {by_slot.get(slot, 0):,}."
                )

    def _mark_complete(self, moid: str) -> None:
        """Mark the machine as complete; until then it must not be used."""
        note = vim.vm.ConfigSpec(
            extraConfig=[vim.option.OptionValue(key=COMPLETE_KEY, value="true")]
        )
        task = self.calls.repeating(
            self.doing,
            lambda: vim.VirtualMachine(moid, self.calls.stub).ReconfigVM_Task(spec=note),
        )
        wait_for_task(self.calls, task, self.doing, NOTE_SECONDS)

    def clean_up(self, error: BaseException) -> None:
        """Remove what was made, within a minute. If that fails, add so to `error`."""
        if not self.may_have_begun:
            return
        call_seconds = min(CLEAN_UP_CALL_SECONDS, self.calls.door.timeout_seconds)
        try:
            with self.calls.hurrying(call_seconds, CLEAN_UP_SECONDS):
                if self.lease is not None:
                    self.lease.abort()
                self._remove_leftover()
        except Exception as problem:  # what was cleaned up after tells more than this
            log.error(
                "vsphere leftover name=%s marker=%s error=%s", self.spec.name, self.marker, problem
            )
            left = (
                f"What was made of {self.spec.name} could not be removed yet ({problem}). It has "
                f"{self.marker} in its notes."
            )
            if isinstance(error, VSphereError):
                error.args = (f"{error} {left}",)
            elif isinstance(error, Exception):
                self.note(left)

    def _remove_leftover(self) -> None:
        """Remove a machine with our marker, for which a lost lease may have to run out first."""
        deadline = time.monotonic() + CLEAN_UP_SECONDS
        sure_after = time.monotonic() + (0 if self.lease is not None else 2)
        while True:
            vm = find_vm(self.calls, self.marker, self.made)
            if vm is None:
                if time.monotonic() >= sure_after:
                    return
            else:
                try:
                    vm.destroy(self.marker, deadline - time.monotonic())
                    return
                except VmBusy:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.5)


def _raise_first_error(
    lease: Lease, uploads: Sequence[Future[None]], keep_alive: KeepAlive
) -> None:
    for upload in uploads:
        if not upload.done():
            continue
        try:
            upload.result()
        except (UploadCut, UploadRefused) as error:
            raise lease.reason(error) from error.__cause__
    if keep_alive.fault is not None:
        raise lease.reason(lease.translate(keep_alive.fault)) from keep_alive.fault
