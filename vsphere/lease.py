"""Imports a machine through an HttpNfcLease: all of it, or nothing.

The order is that of the protocol: ImportVApp, wait for the lease, send every disk while Progress
keeps the lease alive, compare what the host received, Complete. Whatever fails, the lease is
aborted and a machine with our marker that is still there is removed. There is no resume: a lease
that ended has lost its files.
"""

import http.client
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vsphere.addresses import match_disks, upload_address
from vsphere.api import vim, vmodl
from vsphere.calls import Calls
from vsphere.errors import (
    DatastoreFull,
    DigestDiffers,
    DisksUnmatched,
    LeaseLost,
    SessionLost,
    SpecRefused,
    UploadCut,
    UploadRefused,
    VmBusy,
    VSphereError,
    VSphereFault,
)
from vsphere.faults import BROKEN_CONNECTION, describe, translate
from vsphere.keep_alive import KeepAlive
from vsphere.machine import NOT_THERE, find_vm_by_marker, get_vm
from vsphere.properties import read, watch
from vsphere.site import network_backing, read_site, require_site
from vsphere.spec import (
    COMPLETE_KEY,
    MAX_STREAM_BYTES,
    DiskPlace,
    DiskUpload,
    Placement,
    VmSpec,
    build_config,
    check_spec,
    choose_guest_id,
    choose_hardware_version,
    plan_disk_places,
)
from vsphere.tasks import wait_for_task
from vsphere.upload import Sender, Stopped

log = logging.getLogger(__name__)

ProgressReport = Callable[[int, int], None]

READY_SECONDS = 300
NOTE_SECONDS = 120
USUAL_LEASE_SECONDS = 300
LEASE_BOUNDS_SECONDS = (1, 600)  # what of the server's own figure is believed
TICK_SECONDS = 0.1
REPORT_SECONDS = 0.5
MOST_PARALLEL_UPLOADS = 4
JOIN_SECONDS = 30


def import_vm(
    calls: Calls,
    spec: VmSpec,
    disks: Sequence[DiskUpload],
    placement: Placement,
    marker: str,
    progress: ProgressReport,
    check_cancel: Callable[[], None],
    parallel_uploads: int,
) -> str:
    """See `Session.import_vm`."""
    doing = f"Import {spec.name}"
    _check_disks(doing, spec, disks)
    check_cancel()
    making = calls.reading(doing, lambda content: _plan(content, doing, spec, placement, marker))
    started = time.monotonic()
    running = _Import(calls, doing, spec, disks, making, marker)
    try:
        moid = running.run(progress, check_cancel, min(parallel_uploads, MOST_PARALLEL_UPLOADS))
    except BaseException as error:
        raise running.undo(error) from error.__cause__
    log.info(
        "vsphere imported vm=%s name=%s bytes=%d seconds=%.1f",
        moid,
        spec.name,
        running.total_bytes,
        time.monotonic() - started,
    )
    return moid


def _check_disks(doing: str, spec: VmSpec, disks: Sequence[DiskUpload]) -> None:
    check_spec(spec)
    if sorted(disk.number for disk in disks) != sorted(disk.number for disk in spec.disks):
        raise SpecRefused(f"{doing}: the streams to send are not those of the machine's disks.")
    for disk in disks:
        if not 0 < disk.length_bytes < MAX_STREAM_BYTES:
            raise SpecRefused(
                f"{doing}: disk {disk.number} takes {disk.length_bytes:,} bytes compressed; a "
                "stream must be smaller than 2 TiB."
            )


@dataclass(frozen=True)
class _Making:
    """What the call needs: all read from the server, nothing changed yet."""

    config: Any
    pool: Any
    folder: Any
    host: Any


def _plan(content: Any, doing: str, spec: VmSpec, placement: Placement, marker: str) -> _Making:
    site = require_site(read_site(content, placement), doing)
    backings = [network_backing(content, nic.network, doing) for nic in spec.nics]
    versions = [of.get("summary.config.product.version", "") for of in site.hosts.values()]
    config = build_config(
        spec,
        datastore_name=site.of["datastore"]["name"],
        nic_backings=backings,
        marker=marker,
        hardware_version=choose_hardware_version(versions),
        guest_id=choose_guest_id(spec.guest_id, _known_guests(content, site.compute)),
    )
    is_vapp = isinstance(site.objects["resource_pool"], vim.VirtualApp)
    return _Making(
        config=config,
        pool=site.objects["resource_pool"],
        folder=None if is_vapp else site.objects["folder"],
        host=site.objects.get("host"),
    )


def _known_guests(content: Any, compute: Any) -> list[str]:
    """Return the guest ids that the target knows; empty when it does not say."""
    try:
        browser = read(content, compute, ("environmentBrowser",)).get("environmentBrowser")
        option = browser.QueryConfigOption(key=None, host=None) if browser else None
    except (*NOT_THERE, vmodl.fault.InvalidArgument, vmodl.fault.SystemError):
        return []
    return [one.id for one in (option.guestOSDescriptor or ())] if option else []


class _Import:
    """One import under way, with what is needed to undo it."""

    def __init__(
        self,
        calls: Calls,
        doing: str,
        spec: VmSpec,
        disks: Sequence[DiskUpload],
        making: _Making,
        marker: str,
    ) -> None:
        self.calls, self.doing, self.spec = calls, doing, spec
        self.disks, self.making, self.marker = disks, making, marker
        self.total_bytes = sum(disk.length_bytes for disk in disks)
        self.places = plan_disk_places(spec.disks)
        self.lease: Any = None
        self.has_begun = False
        self.is_complete = False
        self.moid: str | None = None
        self.lease_seconds: float = USUAL_LEASE_SECONDS
        self.stop = threading.Event()
        self.senders: list[Sender] = []
        self.threads: list[threading.Thread] = []
        self.keep_alive: KeepAlive | None = None

    def run(
        self, progress: ProgressReport, check_cancel: Callable[[], None], parallel_uploads: int
    ) -> str:
        self._begin()
        info = self._wait_until_ready(check_cancel)
        self.moid = moid = str(info.entity._moId)
        low, high = LEASE_BOUNDS_SECONDS
        self.lease_seconds = min(max(info.leaseTimeout, low), high)
        urls = match_disks(self.doing, info.deviceUrl or (), self.spec.disks, self.places)
        self._start_keep_alive()
        self._send_all(urls, progress, check_cancel, parallel_uploads)
        self._compare_manifest(urls)
        check_cancel()
        self._complete()
        self._verify(moid)
        self._mark_complete(moid)
        progress(self.total_bytes, self.total_bytes)
        return moid

    def _begin(self) -> None:
        making = self.making
        self.has_begun = True  # from here on something may be there to clean up
        try:
            self.lease = self.calls.writing(
                self.doing,
                lambda stub: vim.ResourcePool(making.pool._moId, stub).ImportVApp(
                    spec=vim.vm.VmImportSpec(configSpec=making.config),
                    folder=making.folder,
                    host=making.host,
                ),
            )
        except VSphereError as error:
            # An answer, even a refusal, tells that nothing was made; a broken connection does not.
            self.has_begun = not isinstance(error.__cause__, vmodl.MethodFault)
            raise

    def _wait_until_ready(self, check_cancel: Callable[[], None]) -> Any:
        lease = self.lease
        try:
            seen = watch(
                self.calls.content,
                {lease: ("state", "error")},
                lambda seen: str(seen[lease].get("state")) in ("ready", "error", "done"),
                doing=self.doing,
                limit_seconds=READY_SECONDS,
                check_cancel=check_cancel,
            )
            if str(seen[lease]["state"]) == "error":
                raise self._lease_error(seen[lease].get("error"))
            return read(self.calls.content, lease, ("info",))["info"]
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise self._session_bound(fault) from fault

    def _session_bound(self, fault: BaseException) -> VSphereError:
        if isinstance(fault, vim.fault.NotAuthenticated):
            return SessionLost(
                f"{self.doing}: the session ended in the middle, and an import cannot go on in "
                "another. Try again."
            )
        if isinstance(fault, (vmodl.fault.ManagedObjectNotFound, vim.fault.Timedout)):
            return LeaseLost(
                f"{self.doing}: the server ended the import ({describe(fault)}). Try again; if it "
                "stays so, look at the host's load and network."
            )
        return translate(fault, self.doing)

    def _lease_error(self, fault: Any) -> VSphereError:
        if fault is None:
            return LeaseLost(
                f"{self.doing}: the server ended the import without a reason. Try again."
            )
        if isinstance(fault, vim.fault.Timedout):
            return self._session_bound(fault)
        error = translate(fault, self.doing)
        if isinstance(error, VSphereFault):
            return LeaseLost(f"{self.doing}: the server ended the import ({describe(fault)}).")
        return error

    def _start_keep_alive(self) -> None:
        stub = self.calls.door.second_stub(self.calls.stub)
        lease = vim.HttpNfcLease(self.lease._moId, stub)
        self.keep_alive = KeepAlive(lease, self.lease_seconds)
        self.keep_alive.start()

    def _send_all(
        self,
        urls: dict[int, Any],
        progress: ProgressReport,
        check_cancel: Callable[[], None],
        parallel_uploads: int,
    ) -> None:
        for disk in self.disks:
            address, context = upload_address(urls[disk.number], self.calls.door)
            self.senders.append(Sender(address, context, disk, self.stop))
        waiting = list(self.senders)
        next_report = 0.0
        while True:
            self.threads = [thread for thread in self.threads if thread.is_alive()]
            while waiting and len(self.threads) < max(1, parallel_uploads):
                sender = waiting.pop(0)
                thread = threading.Thread(
                    target=sender.run, name=f"upload disk {sender.upload.number}", daemon=True
                )
                thread.start()
                self.threads.append(thread)
            if self.threads:
                self.threads[0].join(TICK_SECONDS)
            check_cancel()
            self._raise_first_error()
            sent_bytes = sum(sender.sent_bytes for sender in self.senders)
            if self.keep_alive:
                self.keep_alive.percent = min(99, 100 * sent_bytes // max(1, self.total_bytes))
            if time.monotonic() >= next_report:
                progress(sent_bytes, self.total_bytes)
                next_report = time.monotonic() + REPORT_SECONDS
            if not waiting and not any(thread.is_alive() for thread in self.threads):
                self._raise_first_error()
                return

    def _raise_first_error(self) -> None:
        for sender in self.senders:
            if sender.error is None or isinstance(sender.error, Stopped):
                continue
            if isinstance(sender.error, (UploadCut, UploadRefused)):
                raise self._reason(sender.error)
            raise sender.error
        if self.keep_alive and self.keep_alive.fault is not None:
            fault = self.keep_alive.fault
            raise self._reason(self._session_bound(fault)) from fault

    def _reason(self, error: VSphereError) -> VSphereError:
        """Return why the server ended the lease, if it did and says so, else `error`."""
        status = error.status if isinstance(error, UploadRefused) else 0
        if status == http.client.BAD_REQUEST:
            return error
        try:
            of = read(self.calls.content, self.lease, ("state", "error"))
        except (vmodl.MethodFault, *BROKEN_CONNECTION):
            return error
        fault = of.get("error")
        if str(of.get("state")) != "error" or fault is None:
            return error
        told = self._lease_error(fault)
        is_consequence = status in (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
        says_more = isinstance(told, DatastoreFull) or isinstance(fault, vim.fault.Timedout)
        return told if is_consequence or says_more else error

    def _compare_manifest(self, urls: dict[int, Any]) -> None:
        """Compare what the host says it received with what was sent."""
        try:
            manifest = self.lease.HttpNfcLeaseGetManifest() or []
        except NOT_THERE:
            manifest = []
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise self._session_bound(fault) from fault
        received = {entry.key: entry for entry in manifest}
        for sender in self.senders:
            url = urls[sender.upload.number]
            entry = received.get(url.key) or received.get(url.importKey)
            if entry is None:
                log.warning(
                    "vsphere gives no digest name=%s disk=%d", self.spec.name, sender.upload.number
                )
                continue
            digest = (entry.sha1 or "").lower()
            if entry.size != sender.sent_bytes or (digest and digest != sender.sha1):
                raise DigestDiffers(
                    f"{sender.doing}: the host received {entry.size:,} bytes with SHA-1 {digest}, "
                    f"sent were {sender.sent_bytes:,} with {sender.sha1}. Check the network."
                )

    def _complete(self) -> None:
        try:
            self.lease.HttpNfcLeaseComplete()
        except vmodl.fault.ManagedObjectNotFound:
            log.warning("vsphere lease gone at its completion name=%s", self.spec.name)
        except (vmodl.MethodFault, *BROKEN_CONNECTION) as fault:
            raise self._session_bound(fault) from fault
        self.is_complete = True
        if self.keep_alive:
            self.keep_alive.end()

    def _verify(self, moid: str) -> None:
        """Read the machine's disks back: each must be where and as large as it was meant to be."""
        found = get_vm(self.calls, moid).hardware().disks
        by_place: dict[DiskPlace | None, int] = {disk.place: disk.capacity_bytes for disk in found}
        for disk in self.spec.disks:
            place = self.places[disk.number]
            if by_place.get(place) != disk.capacity_bytes:
                raise DisksUnmatched(
                    f"{self.doing}: disk {disk.number} at {place.import_name} should have "
                    f"{disk.capacity_bytes:,} bytes and has {by_place.get(place, 0):,}."
                )

    def _mark_complete(self, moid: str) -> None:
        """Note in the machine that it is whole; until then nobody may take it for ours to use."""
        note = vim.vm.ConfigSpec(
            extraConfig=[vim.option.OptionValue(key=COMPLETE_KEY, value="true")]
        )
        task = self.calls.writing(
            self.doing, lambda stub: vim.VirtualMachine(moid, stub).ReconfigVM_Task(spec=note)
        )
        wait_for_task(self.calls, task, self.doing, NOTE_SECONDS)

    def undo(self, error: BaseException) -> BaseException:
        """Abort, remove what was made, and return the error to raise."""
        self.stop.set()
        for sender in self.senders:
            sender.interrupt()
        if self.keep_alive:
            self.keep_alive.end()
        for thread in self.threads:
            thread.join(timeout=JOIN_SECONDS)
        if not self.has_begun:
            return error
        try:
            self._abort()
            self._remove_leftover()
        except VSphereError as problem:
            log.error(
                "vsphere leftover name=%s marker=%s error=%s", self.spec.name, self.marker, problem
            )
            if isinstance(error, VSphereError):
                text = (
                    f"{error} What was made of {self.spec.name} could not be removed ({problem}): "
                    f"look for a machine with {self.marker} in its notes."
                )
                error.args = (text,)
        return error

    def _abort(self) -> None:
        if self.lease is None or self.is_complete:
            return
        lease_id = self.lease._moId
        try:
            self.calls.writing(
                self.doing, lambda stub: vim.HttpNfcLease(lease_id, stub).HttpNfcLeaseAbort()
            )
        except VSphereError as problem:  # already over; whether anything is left is looked at next
            log.info("vsphere abort name=%s answer=%s", self.spec.name, problem)

    def _remove_leftover(self) -> None:
        """Remove a machine with our marker, waiting as long as a lost lease can hold it."""
        deadline = time.monotonic() + self.lease_seconds + 30
        sure_after = time.monotonic() + (0 if self.lease is not None else 2)
        while True:
            vm = find_vm_by_marker(self.calls, self.marker)
            if vm is None:
                if time.monotonic() >= sure_after:
                    return
            else:
                try:
                    vm.destroy(self.marker)
                    return
                except VmBusy:
                    if time.monotonic() > deadline:
                        raise
            time.sleep(0.5)
