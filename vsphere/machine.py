"""One virtual machine: power, guest, hardware, removal."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vsphere.api import vim, vmodl
from vsphere.errors import NotOurVm, VmMissing, VSphereFault, WrongPowerState
from vsphere.faults import translate
from vsphere.placement import has_drs
from vsphere.properties import Properties, read, watch
from vsphere.spec import BOOT_ID_KEY, CONTROLLERS, MARKER_KEY, DiskPlace
from vsphere.tasks import wait_for_task

if TYPE_CHECKING:
    from vsphere.session import Session

ON, OFF = "poweredOn", "poweredOff"
NOT_THERE = (vmodl.fault.MethodNotFound, vmodl.fault.NotImplemented, vmodl.fault.NotSupported)
GUEST_PATHS = (
    "guest.ipAddress",
    "guest.hostName",
    "guest.toolsRunningStatus",
    "guest.net",
    "config.extraConfig",
)
HARDWARE_PATHS = (
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.firmware",
    "config.hardware.device",
)


@dataclass(frozen=True)
class Guest:
    """What the guest's tools say of it. All is unset until they run."""

    address: str | None
    hostname: str | None
    tools_running: bool
    boot_id: str | None


@dataclass(frozen=True)
class AttachedDisk:
    """A disk as it came out."""

    key: int
    place: DiskPlace | None
    capacity_bytes: int
    file: str


@dataclass(frozen=True)
class AttachedNic:
    """A network adapter as it came out."""

    adapter: str
    mac: str


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of; disks in the server's order."""

    cpus: int
    memory_bytes: int
    firmware: str
    disks: tuple[AttachedDisk, ...]
    nics: tuple[AttachedNic, ...]


@dataclass
class Vm:
    """A virtual machine; what is kept of it here is as of when it was read.

    `is_complete` is false for one whose import has not been finished and checked, as when the
    importing process was killed: such a machine is to be removed, not used.
    """

    session: "Session"
    moid: str
    name: str
    power_state: str
    marker: str | None
    is_complete: bool = False

    @property
    def is_on(self) -> bool:
        """Tell whether it was on when it was read."""
        return self.power_state == ON

    @property
    def title(self) -> str:
        """Return name and id, as texts name it."""
        return f"{self.name} ({self.moid})"

    def _target(self, stub: Any = None) -> Any:
        return vim.VirtualMachine(self.moid, stub or self.session.stub)

    def refresh(self) -> None:
        """Read all of that again."""
        now = self.session.get_vm(self.moid)
        self.name, self.power_state = now.name, now.power_state
        self.marker, self.is_complete = now.marker, now.is_complete

    def power_on(
        self, limit_seconds: float = 300, check_cancel: Callable[[], None] | None = None
    ) -> None:
        """Power on; on already is success.

        Raises:
            ResourcesMissing: no host has the CPU, memory or failover capacity.
            VmAsks: it waits for an answer.
        """
        doing = f"Power on {self.title}"
        self.refresh()
        if self.is_on:
            return
        try:
            task = self._start(doing)
            if task is not None:
                wait_for_task(
                    self.session,
                    task,
                    doing,
                    limit_seconds,
                    vm=self._target(),
                    check_cancel=check_cancel,
                )
        except WrongPowerState:
            self.refresh()
            if not self.is_on:
                raise
            return
        self._wait_for_power(ON, doing, limit_seconds)

    def _start(self, doing: str) -> Any:
        """Start to power on, by DRS where there is one; return the task to wait for, if any."""
        of = self.session.read_vm(self.moid, ("resourcePool", "parent"))
        datacenter = self.session.reading(doing, lambda content: self._find_drs(content, of))
        if datacenter is None:
            return self.session.writing(doing, lambda stub: self._target(stub).PowerOnVM_Task())
        try:
            task = self.session.writing(doing, lambda stub: self._power_on_multi(datacenter, stub))
        except VSphereFault as error:
            if isinstance(error.__cause__, NOT_THERE):
                return self.session.writing(doing, lambda stub: self._target(stub).PowerOnVM_Task())
            raise
        result = wait_for_task(self.session, task, doing, 120)
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
        """Return the datacenter to power on through, none where no DRS is at work."""
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
        self.session.reading(
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
        """Power off at once, as by pulling the plug; off already is success."""
        doing = f"Power off {self.title}"
        self.refresh()
        if self.power_state == OFF:
            return
        try:
            task = self.session.writing(doing, lambda stub: self._target(stub).PowerOffVM_Task())
            wait_for_task(self.session, task, doing, limit_seconds)
        except WrongPowerState:
            self.refresh()
            if self.power_state != OFF:
                raise
            return
        self._wait_for_power(OFF, doing, limit_seconds)

    def reboot_guest(self, limit_seconds: float = 120) -> Literal["guest", "reset"]:
        """Ask the guest to reboot, or reset the machine where no tools run; return which it was.

        It does not wait for the guest to come back: a new boot id in `guest()` tells that.
        """
        doing = f"Reboot the guest of {self.title}"
        try:
            self.session.writing(doing, lambda stub: self._target(stub).RebootGuest())
            return "guest"
        except (VSphereFault, WrongPowerState) as error:
            if not isinstance(error.__cause__, (vim.fault.ToolsUnavailable, *NOT_THERE)):
                raise
        task = self.session.writing(doing, lambda stub: self._target(stub).ResetVM_Task())
        wait_for_task(self.session, task, doing, limit_seconds)
        return "reset"

    def guest(self, mac: str | None = None) -> Guest:
        """Return what is known of the guest; its address by adapter `mac`, or by any."""
        of = self.session.read_vm(self.moid, GUEST_PATHS)
        running = of.get("guest.toolsRunningStatus") == "guestToolsRunning"
        extra = {option.key: option.value for option in of.get("config.extraConfig", ())}
        return Guest(
            address=choose_address(of, mac),
            hostname=of.get("guest.hostName") or None,
            tools_running=running,
            boot_id=extra.get(BOOT_ID_KEY) or None,
        )

    def hardware(self) -> Hardware:
        """Return CPUs, memory, firmware, disks and adapters."""
        return read_hardware(self.session.read_vm(self.moid, HARDWARE_PATHS))

    def destroy(self, expected_marker: str, limit_seconds: float = 300) -> None:
        """Remove the machine with its disks, if it bears the marker. Gone already is success.

        Raises:
            NotOurVm: it bears another marker, or none.
            WrongPowerState: it is on.
        """
        doing = f"Remove {self.title}"
        try:
            self.refresh()
            if self.marker != expected_marker:
                raise NotOurVm(
                    f"{doing}: its {MARKER_KEY} is {self.marker or 'not set'}, not "
                    f"{expected_marker}. This job did not make it, so it stays; remove it yourself "
                    "if it is not needed."
                )
            task = self.session.writing(doing, lambda stub: self._target(stub).Destroy_Task())
            wait_for_task(self.session, task, doing, limit_seconds)
        except VmMissing:
            return


def choose_address(of: Properties, mac: str | None) -> str | None:
    """Return the guest's address to connect to: of the adapter `mac` if given, IPv4 before IPv6."""
    found: list[str] = []
    for nic in of.get("guest.net", ()):
        if mac and (nic.macAddress or "").lower() != mac.lower():
            continue
        configured = nic.ipConfig.ipAddress if nic.ipConfig else ()
        found += [
            one.ipAddress for one in configured if one.state in (None, "preferred", "unknown")
        ]
        if not configured:
            found += nic.ipAddress or ()
    if not mac and not found and of.get("guest.ipAddress"):
        found.append(of["guest.ipAddress"])
    usable = [address for address in found if _is_usable(address)]
    return min(usable, key=lambda address: ":" in address, default=None)


def _is_usable(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast)


def read_hardware(of: Properties) -> Hardware:
    """Return the hardware in a machine's properties."""
    controllers: dict[int, tuple[str, int]] = {}
    devices = of.get("config.hardware.device", ())
    for device in devices:
        for name, kind in CONTROLLERS.items():
            if type(device) is kind.make:
                controllers[device.key] = (name, device.busNumber)
    disks, nics = [], []
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualDisk):
            at = controllers.get(device.controllerKey)
            disks.append(
                AttachedDisk(
                    key=device.key,
                    place=DiskPlace(*at, device.unitNumber) if at else None,
                    capacity_bytes=device.capacityInBytes or device.capacityInKB * 1024,
                    file=getattr(device.backing, "fileName", ""),
                )
            )
        elif isinstance(device, vim.vm.device.VirtualEthernetCard):
            adapter = type(device).__name__.rpartition(".")[2].removeprefix("Virtual").lower()
            nics.append(AttachedNic(adapter=adapter, mac=(device.macAddress or "").lower()))
    return Hardware(
        cpus=of.get("config.hardware.numCPU", 0),
        memory_bytes=of.get("config.hardware.memoryMB", 0) << 20,
        firmware=of.get("config.firmware", ""),
        disks=tuple(disks),
        nics=tuple(nics),
    )
