"""A virtual machine: power, guest, hardware, removal."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from vsphere.api import vim
from vsphere.calls import Calls
from vsphere.errors import NotOurVm, SeveralVms, VmMissing, VSphereFault, WrongPowerState
from vsphere.faults import UNSUPPORTED, translate
from vsphere.guest import GUEST_PATHS, Guest, read_guest
from vsphere.hardware import HARDWARE_PATHS, Hardware, read_hardware
from vsphere.inventory import plain_name
from vsphere.properties import Properties, extra_config, read, read_inventory, watch
from vsphere.site import has_drs
from vsphere.spec import COMPLETE_KEY, MARKER_KEY, TEMPORARY_KEY, temporary_text
from vsphere.tasks import wait_for_task

log = logging.getLogger(__name__)

ON, OFF = "poweredOn", "poweredOff"
VM_PATHS = ("name", "runtime.powerState", "config.instanceUuid", *GUEST_PATHS)


@dataclass(frozen=True)
class VmIdentity:
    """What vSphere knows a machine by. Its copies have its marker and its name, but not this.

    moid: changes if the machine is registered again.
    instance_uuid: unique in a vCenter; empty if it is not known.
    """

    moid: str
    instance_uuid: str = ""


@dataclass
class Vm:
    """A virtual machine as it was when it was last read.

    `is_complete` is false until its import has finished and been verified. If the importing
    process was killed, the machine stays incomplete and must be removed, not used.
    """

    calls: Calls
    moid: str
    name: str
    power_state: str
    marker: str | None
    is_complete: bool = False
    instance_uuid: str = ""
    _of: Properties = field(default_factory=dict, repr=False)

    @property
    def is_on(self) -> bool:
        """Tell whether it was on when last read."""
        return self.power_state == ON

    @property
    def title(self) -> str:
        """Return name and id for messages."""
        return f"{self.name} ({self.moid})"

    @property
    def identity(self) -> VmIdentity:
        """Return what tells it from its copies."""
        return VmIdentity(self.moid, self.instance_uuid)

    def _target(self, stub: Any = None) -> Any:
        return vim.VirtualMachine(self.moid, stub or self.calls.stub)

    def refresh(self) -> None:
        """Read it again."""
        now = get_vm(self.calls, self.moid)
        self.name, self.power_state = now.name, now.power_state
        self.marker, self.is_complete, self._of = now.marker, now.is_complete, now._of

    def power_on(
        self, limit_seconds: float = 300, check_cancel: Callable[[], None] | None = None
    ) -> None:
        """Power on. Succeeds if it is already on.

        Raises:
            ResourcesMissing: no host has the CPU, memory or failover capacity.
            VmAsks: it asks a question.
        """
        doing = f"Power on {self.title}"
        self.refresh()
        if self.is_on:
            return
        try:
            task = self._start(doing)
            if task is None:
                self._wait_for_power(ON, doing, limit_seconds)
            else:
                wait_for_task(
                    self.calls,
                    task,
                    doing,
                    limit_seconds,
                    vm=self._target(),
                    check_cancel=check_cancel,
                )
                # By now it may be off again: what ran in it ended at once.
                self.power_state = ON
        except WrongPowerState:
            self.refresh()
            if not self.is_on:
                raise

    def _start(self, doing: str) -> Any:
        """Start powering on, through DRS if enabled; return the task to wait for, if any."""
        of = read_vm(self.calls, self.moid, ("resourcePool", "parent"))
        datacenter = self.calls.reading(doing, lambda content: self._find_drs(content, of))
        if datacenter is None:
            return self.calls.writing(doing, lambda stub: self._target(stub).PowerOnVM_Task())
        try:
            task = self.calls.writing(doing, lambda stub: self._power_on_multi(datacenter, stub))
        except VSphereFault as error:
            if isinstance(error.__cause__, UNSUPPORTED):
                return self.calls.writing(doing, lambda stub: self._target(stub).PowerOnVM_Task())
            raise
        result = wait_for_task(self.calls, task, doing, 120)
        for refused in getattr(result, "notAttempted", None) or ():
            raise translate(refused.fault, doing)
        return next(
            (one.task for one in getattr(result, "attempted", None) or () if one.task), None
        )

    def _power_on_multi(self, datacenter: Any, stub: Any) -> Any:
        override = vim.option.OptionValue(key="OverrideAutomationLevel", value="fullyAutomated")
        return vim.Datacenter(datacenter._moId, stub).PowerOnMultiVM_Task(
            vm=[self._target(stub)], option=[override]
        )

    def _find_drs(self, content: Any, of: Properties) -> Any:
        """Return the datacenter to power on through, or none without DRS."""
        pool, parent = of.get("resourcePool"), of.get("parent")
        if content.about.apiType != "VirtualCenter" or pool is None:
            return None
        if not has_drs(content, read(content, pool, ("owner",)).get("owner")):
            return None
        while parent is not None and not isinstance(parent, vim.Datacenter):
            parent = read(content, parent, ("parent",)).get("parent")
        return parent

    def _wait_for_power(self, wanted: str, doing: str, limit_seconds: float) -> None:
        target = self._target()
        self.calls.reading(
            doing,
            lambda content: watch(
                content,
                {target: ("runtime.powerState",)},
                lambda seen: str(seen[target].get("runtime.powerState")) == wanted,
                doing=doing,
                limit_seconds=limit_seconds,
            ),
        )
        self.power_state = wanted

    def power_off(self, limit_seconds: float = 120) -> None:
        """Power off hard, as if unplugged. Succeeds if it is already off."""
        doing = f"Power off {self.title}"
        self.refresh()
        if self.power_state == OFF:
            return
        try:
            task = self.calls.writing(doing, lambda stub: self._target(stub).PowerOffVM_Task())
            wait_for_task(self.calls, task, doing, limit_seconds)
        except WrongPowerState:
            self.refresh()
            if self.power_state != OFF:
                raise
            return
        self._wait_for_power(OFF, doing, limit_seconds)

    def reboot_guest(self, limit_seconds: float = 120) -> Literal["guest", "reset"]:
        """Ask the guest to reboot, or reset the machine if no tools run; return which was done.

        It does not wait for the guest: a new boot id in `guest()` shows that it is back.
        """
        doing = f"Reboot the guest of {self.title}"
        try:
            self.calls.writing(doing, lambda stub: self._target(stub).RebootGuest())
            return "guest"
        except (VSphereFault, WrongPowerState) as error:
            if not isinstance(error.__cause__, (vim.fault.ToolsUnavailable, *UNSUPPORTED)):
                raise
        task = self.calls.writing(doing, lambda stub: self._target(stub).ResetVM_Task())
        wait_for_task(self.calls, task, doing, limit_seconds)
        return "reset"

    def shut_down_guest(self) -> bool:
        """Ask the guest to shut down; False if no tools run. It does not wait for it."""
        doing = f"Shut down the guest of {self.title}"
        try:
            self.calls.writing(doing, lambda stub: self._target(stub).ShutdownGuest())
        except (VSphereFault, WrongPowerState) as error:
            if not isinstance(error.__cause__, (vim.fault.ToolsUnavailable, *UNSUPPORTED)):
                raise
            return False
        return True

    def guest(self, mac: str | None = None) -> Guest:
        """Return what the guest reported when last read; `mac` limits the address to one card."""
        return read_guest(self._of, mac)

    def hardware(self) -> Hardware:
        """Return CPUs, memory, firmware, disks and adapters."""
        return read_hardware(read_vm(self.calls, self.moid, HARDWARE_PATHS))

    def remove_temporary_disk(self, limit_seconds: float = 120) -> None:
        """Remove the temporary disk. The machine may be running.

        Succeeds if it is gone. Only a disk of the same size at the same place is removed.
        """
        doing = f"Remove the temporary disk of {self.title}"
        of = read_vm(self.calls, self.moid, ("config.extraConfig", *HARDWARE_PATHS))
        recorded = extra_config(of).get(TEMPORARY_KEY)
        if not recorded:
            return
        keys = {
            disk.key
            for disk in read_hardware(of).disks
            if disk.slot and temporary_text(disk.slot, disk.capacity_bytes) == recorded
        }
        changes = [
            vim.vm.device.VirtualDeviceSpec(
                operation="remove", fileOperation="destroy", device=device
            )
            for device in of.get("config.hardware.device", ())
            if device.key in keys
        ]
        forget = vim.option.OptionValue(key=TEMPORARY_KEY, value="")
        spec = vim.vm.ConfigSpec(deviceChange=changes, extraConfig=[forget])
        task = self.calls.writing(doing, lambda stub: self._target(stub).ReconfigVM_Task(spec=spec))
        wait_for_task(self.calls, task, doing, limit_seconds)

    def destroy(self, expected_marker: str, limit_seconds: float = 300) -> None:
        """Remove the machine and its disks if it has the marker. Succeeds if it is gone.

        Raises:
            NotOurVm: it has another marker, or none.
            WrongPowerState: it is on.
        """
        doing = f"Remove {self.title}"
        try:
            self.refresh()
            if self.marker != expected_marker:
                raise NotOurVm(
                    f"{doing}: its {MARKER_KEY} is {self.marker or 'not set'}, not "
                    f"{expected_marker}. This job did not create it, so it is kept. If "
                    "nobody needs it, remove it yourself."
                )
            task = self.calls.writing(doing, lambda stub: self._target(stub).Destroy_Task())
            wait_for_task(self.calls, task, doing, limit_seconds)
        except VmMissing:
            return


def get_vm(calls: Calls, moid: str) -> Vm:
    """Return a machine by its id.

    Raises:
        VmMissing: it does not exist.
    """
    of = read_vm(calls, moid, VM_PATHS)
    extra = extra_config(of)
    return Vm(
        calls=calls,
        moid=moid,
        name=plain_name(of.get("name", "")),
        power_state=str(of.get("runtime.powerState", "")),
        marker=extra.get(MARKER_KEY),
        is_complete=extra.get(COMPLETE_KEY) == "true",
        instance_uuid=of.get("config.instanceUuid", ""),
        _of=of,
    )


def find_vm(calls: Calls, marker: str, identity: VmIdentity | None = None) -> Vm | None:
    """Return the machine with the marker, or none; once its identity is known, only that one.

    Raises:
        SeveralVms: its identity is not known, and several machines have the marker.
        NotOurVm: the machine is there, but has another marker or another identity.
    """
    if identity is None:
        return _only(_with_marker(calls, marker), marker)
    try:
        there = get_vm(calls, identity.moid)
    except VmMissing:
        there = None
    if there is not None:
        has_marker = there.marker == marker
        has_uuid = identity.instance_uuid in ("", there.instance_uuid)
        if has_marker and has_uuid:
            return there
        if has_marker or (has_uuid and identity.instance_uuid):
            raise NotOurVm(
                f"Find the machine of marker {marker}: {there.title} was it, but now has the "
                f"marker {there.marker or '(none)'} and the instance UUID "
                f"{there.instance_uuid or '(none)'} instead of {identity.instance_uuid}. Find out "
                "who changed it; this job does not touch it."
            )
    if not identity.instance_uuid:
        return None
    # Registered again, it has another id. Other machines with its marker are copies.
    found = [vm for vm in _with_marker(calls, marker) if vm.instance_uuid == identity.instance_uuid]
    return _only(found, marker)


def _with_marker(calls: Calls, marker: str) -> list[Vm]:
    return [vm for vm in find_marked_vms(calls, marker) if vm.marker == marker]


def _only(found: list[Vm], marker: str) -> Vm | None:
    if len(found) > 1:
        raise SeveralVms(
            f"Find the machine of marker {marker}: several have it: "
            f"{', '.join(vm.title for vm in found)}. All but one are copies, for example restored "
            "ones. Remove them, or their key understudy.marker, then try again."
        )
    return found[0] if found else None


def find_marked_vms(calls: Calls, prefix: str) -> Iterator[Vm]:
    """Yield the machines whose marker begins like that; copies have it, too.

    Annotations narrow the search; the machine's own configuration decides.
    """
    doing = f"Find the machines with marker {prefix}"
    paths = {vim.VirtualMachine: ("name", "config.annotation")}
    everything = calls.reading(
        doing, lambda content: list(read_inventory(content, content.rootFolder, paths))
    )
    candidates = [
        one.target._moId
        for one in everything
        if prefix in one.properties.get("config.annotation", "")
    ]
    unread = [one.target._moId for one in everything if one.refusal is not None]
    if unread:
        log.warning("vsphere cannot look for markers on moids=%s", ",".join(unread))
    for moid in candidates:
        with contextlib.suppress(VmMissing):
            vm = get_vm(calls, moid)
            if (vm.marker or "").startswith(prefix):
                yield vm


def read_vm(calls: Calls, moid: str, paths: tuple[str, ...]) -> Properties:
    """Return properties of a machine; raise VmMissing if it does not exist."""
    return calls.reading(
        f"Read virtual machine {moid}",
        lambda content: read(content, vim.VirtualMachine(moid, calls.stub), paths),
    )
