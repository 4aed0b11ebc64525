"""Run one virtual machine in QEMU: start, stop, reset, take a screenshot.

A machine is a folder with QEMU's sockets, the record of its process and the log of the serial
console, so any process of the lab can find a machine that another one started. A machine outlives
the process that started it.
"""

import contextlib
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import qmp
from lab.accelerator import accelerator_arguments
from lab.processes import OwnProcess, find_process, write_record
from rescue_medium.commands import CommandFailed, run_command

# QEMU's names for the controllers of a VM's configuration. The first group takes `scsi-hd` disks,
# the others have their own kinds of disks.
SCSI_CONTROLLERS = {
    "pvscsi": "pvscsi",
    "lsilogic": "lsi53c895a",
    "buslogic": "lsi53c895a",
    "lsilogicsas": "mptsas1068",
    "virtio-scsi": "virtio-scsi-pci",
}
# A SAS disk needs a world wide name; these are locally assigned ones.
_LOCAL_WWN = 0x3000_0000_0000_0001
OTHER_CONTROLLERS = ("ide", "sata", "nvme")
EFI_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
EFI_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_OWN_EFI_VARIABLES = "efi-variables.fd"
# Debian's build of that firmware has no drivers for the other controllers.
EFI_CONTROLLERS = ("ide", "sata", "nvme", "virtio-scsi")
SUSPEND_SECONDS = 120
_RELAY = Path(__file__).resolve().parent / "relay.py"
NIC_MODELS = {"vmxnet3": "vmxnet3", "e1000": "e1000", "e1000e": "e1000e", "pcnet32": "pcnet"}


class GuestFailed(Exception):
    """A virtual machine cannot be started or controlled; the text says which and why."""


@dataclass(frozen=True)
class Drive:
    """One disk. `controller` is one of SCSI_CONTROLLERS or OTHER_CONTROLLERS."""

    path: Path
    image_format: str
    controller: str
    unit: int
    bus: int = 0

    @property
    def bus_id(self) -> str:
        return f"{self.controller}{self.bus}"


@dataclass(frozen=True)
class Hardware:
    """The virtual hardware of a machine: `nics` as (model, MAC or nothing), `firmware` bios or efi.

    With a `boot_medium` in its CD drive, a BIOS boots from that at power-on, and from the disk, if
    that is bootable, when the guest restarts. EFI always tries the disk first.
    """

    cpus: int
    memory_bytes: int
    drives: tuple[Drive, ...]
    nics: tuple[tuple[str, str | None], ...]
    firmware: str = "bios"
    boot_medium: Path | None = None


@dataclass(frozen=True)
class Forward:
    """A port of this computer that is forwarded to a port of the machine."""

    address: str
    port: int
    guest_port: int


@dataclass(frozen=True)
class Outlet:
    """An address in the machine's network that leads to a port of this computer, and only there.

    caller: the address of this computer from which the machine's connections then come.
    """

    address: str
    port: int
    caller: str


class Guest:
    """A virtual machine in its folder, running or not."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    @property
    def console_log(self) -> Path:
        return self.folder / "console.log"

    @property
    def tools_socket(self) -> Path:
        return self.folder / "tools.sock"

    @property
    def process(self) -> OwnProcess | None:
        return find_process(self.folder / "qemu.pid.json")

    @property
    def is_running(self) -> bool:
        return self.process is not None

    def start(
        self,
        hardware: Hardware,
        forwards: Sequence[Forward],
        memory: Path | None = None,
        outlets: Sequence[Outlet] = (),
    ) -> None:
        """Power on, unless it is running.

        memory: what `suspend` wrote; the machine resumes from it, and the file is removed.

        Raises:
            GuestFailed: QEMU does not start; the text has its output.
        """
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        pid_file = self.folder.resolve() / "qemu.pid"
        pid_file.unlink(missing_ok=True)
        try:
            if hardware.firmware == "efi" and not (self.folder / _OWN_EFI_VARIABLES).exists():
                shutil.copyfile(EFI_VARIABLES, self.folder / _OWN_EFI_VARIABLES)
            run_command(
                *_command(self.name, hardware, forwards, outlets),
                *(("-incoming", _memory_from(memory)) if memory else ()),
                *("-daemonize", "-pidfile", pid_file),
                folder=self.folder,
                limit_seconds=60,
            )
            process = OwnProcess.of(int(pid_file.read_text()))
        except (CommandFailed, OSError, ValueError) as error:
            raise GuestFailed(f"{self.name} does not start: {error}") from error
        write_record(self.folder / "qemu.pid.json", process)

    def kill(self) -> None:
        """Cut the power."""
        if process := self.process:
            process.kill()

    def suspend(self, memory: Path) -> None:
        """Stop it and save its memory to a file; with its disks as they are now, it can resume.

        Raises:
            GuestFailed: QEMU refuses, or takes too long.
        """
        # Not stopped first: it would still be stopped when it resumes.
        self._monitor("migrate", uri=f"exec:zstd -q -o {shlex.quote(str(memory.resolve()))}")
        deadline = time.monotonic() + SUSPEND_SECONDS
        while (state := self._monitor("query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > deadline:
                raise GuestFailed(f"{self.name} cannot be suspended: {state}")
            time.sleep(0.1)
        self.kill()

    def reset(self) -> None:
        """Press the reset button."""
        self._monitor("system_reset")

    def press_power_button(self) -> None:
        """Press the power button, on which the guest shuts down."""
        self._monitor("system_powerdown")

    def shut_down(self, limit_seconds: float) -> None:
        """Press the power button; cut the power if the guest does not shut down in time."""
        process = self.process
        if process is None:
            return
        with contextlib.suppress(GuestFailed):
            self.press_power_button()
            process.wait(limit_seconds)
        process.kill()

    def unplug(self, number: int) -> None:
        """Take a disk away from the running machine, by its position among the drives.

        Raises:
            GuestFailed: its controller does not allow that.
        """
        self._monitor("device_del", id=_drive_id(number))

    def screenshot(self, path: Path) -> None:
        """Save the machine's screen as a PNG file."""
        self._monitor("screendump", filename=str(path.resolve()), format="png")

    def console_text(self) -> str:
        """Return what the serial console has printed; nothing before the first start."""
        try:
            return self.console_log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_console(self, text: str, limit_seconds: float) -> None:
        """Wait until the serial console has printed `text`.

        Raises:
            GuestFailed: it did not in time; the text ends with the end of the log.
        """
        deadline = time.monotonic() + limit_seconds
        while True:
            log = self.console_text()
            if text in log:
                return
            if time.monotonic() > deadline:
                raise GuestFailed(f"{self.name}: no {text!r} on the console:\n{log[-2000:]}")
            time.sleep(0.3)

    def _monitor(self, command: str, **arguments: object) -> Any:
        try:
            return qmp.execute(self.folder / "qmp.sock", command, **arguments)
        except qmp.MonitorFailed as error:
            raise GuestFailed(f"{self.name}: {error}") from error


def _command(
    name: str, hardware: Hardware, forwards: Sequence[Forward], outlets: Sequence[Outlet]
) -> list[str]:
    command = [
        "qemu-system-x86_64",
        *("-name", name.replace(",", ",,")),
        *("-machine", "pc", *accelerator_arguments()),
        *("-smp", str(hardware.cpus), "-m", f"{max(hardware.memory_bytes >> 20, 64)}M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"),
        *_firmware(name, hardware),
        *("-boot", _boot_order(hardware)),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
        *("-chardev", "socket,id=tools,path=tools.sock,server=on,wait=off"),
        *("-serial", "chardev:tools"),
        *("-device", "virtio-rng-pci"),
    ]
    for bus_id, drive in {drive.bus_id: drive for drive in hardware.drives}.items():
        command += _controller(name, drive.controller, bus_id)
    has_indices = _has_boot_indices(hardware)
    for number, drive in enumerate(hardware.drives):
        command += _drive(number, drive, _boot_index(number) if has_indices else "")
    if hardware.boot_medium is not None:
        command += _cd(
            hardware.boot_medium, _boot_index(len(hardware.drives)) if has_indices else ""
        )
    for number, (model, mac) in enumerate(hardware.nics):
        joined = (forwards, outlets) if number == 0 else ((), ())
        command += _nic(name, number, model, mac, *joined)
    return command


def _memory_from(memory: Path) -> str:
    # Only once: after the machine has run, its disks no longer match that memory.
    path = shlex.quote(str(memory.resolve()))
    return f"exec:zstd -q -d -c {path} && rm {path}"


def _controller(name: str, controller: str, bus_id: str) -> list[str]:
    if controller in SCSI_CONTROLLERS:
        return ["-device", f"{SCSI_CONTROLLERS[controller]},id={bus_id}"]
    if controller == "sata":
        return ["-device", f"ahci,id={bus_id}"]
    if controller in OTHER_CONTROLLERS:
        return []
    raise GuestFailed(f"{name} has a disk on {controller!r}, which the lab does not support")


def _firmware(name: str, hardware: Hardware) -> list[str]:
    firmware, controllers = hardware.firmware, {drive.controller for drive in hardware.drives}
    if firmware == "bios":
        return []
    if firmware != "efi":
        raise GuestFailed(f"{name} needs the firmware {firmware!r}, which the lab does not support")
    if hardware.boot_medium is None and not controllers.intersection(EFI_CONTROLLERS):
        raise GuestFailed(
            f"{name} boots by EFI, and the lab's EFI only finds disks on "
            f"{', '.join(EFI_CONTROLLERS)}, not on {', '.join(sorted(controllers))}"
        )
    flash = "if=pflash,format=raw,unit"
    return [
        *("-drive", f"{flash}=0,readonly=on,file={EFI_CODE}"),
        *("-drive", f"{flash}=1,file={_OWN_EFI_VARIABLES}"),
    ]


def _has_boot_indices(hardware: Hardware) -> bool:
    """Tell whether the devices get boot indices.

    A BIOS would follow them at power-on too, when the medium must come first. EFI knows nothing
    else, and continues with the medium as long as the disks are not bootable.
    """
    return hardware.boot_medium is None or hardware.firmware == "efi"


def _boot_index(number: int) -> str:
    return f",bootindex={number}"


def _boot_order(hardware: Hardware) -> str:
    return "menu=off,strict=on" if _has_boot_indices(hardware) else "menu=off,order=cd,once=dc"


def _cd(path: Path, boot_index: str) -> list[str]:
    backend = f"file={_escaped(path)},format=raw,if=none,id=cd,readonly=on,media=cdrom"
    return ["-drive", backend, "-device", f"ide-cd,drive=cd{boot_index}"]


def _escaped(path: Path) -> str:
    return str(path.resolve()).replace(",", ",,")


def _drive_id(number: int) -> str:
    return f"drive{number}"


def _drive(number: int, drive: Drive, boot_index: str) -> list[str]:
    path = _escaped(drive.path)
    backend = f"file={path},format={drive.image_format},if=none,id=disk{number},discard=unmap"
    if drive.controller in SCSI_CONTROLLERS:
        device = f"scsi-hd,bus={drive.bus_id}.0,scsi-id={drive.unit},drive=disk{number}{boot_index}"
        if drive.controller == "lsilogicsas":
            device += f",wwn={_LOCAL_WWN + number:#x}"
    elif drive.controller == "sata":
        device = f"ide-hd,bus={drive.bus_id}.{drive.unit},drive=disk{number}{boot_index}"
    elif drive.controller == "nvme":
        device = f"nvme,serial=disk{number},drive=disk{number}{boot_index}"
    else:
        device = f"ide-hd,drive=disk{number}{boot_index}"
    return ["-drive", backend, "-device", f"{device},id={_drive_id(number)}"]


def _nic(
    name: str,
    number: int,
    model: str,
    mac: str | None,
    forwards: Sequence[Forward],
    outlets: Sequence[Outlet],
) -> list[str]:
    if model not in NIC_MODELS:
        raise GuestFailed(
            f"{name} has the network adapter {model!r}, which the lab does not support"
        )
    # restrict=on: the machine reaches nothing but its outlets, not even this computer.
    backend = f"user,id=net{number},restrict=on,ipv6=off"
    for forward in forwards:
        backend += f",hostfwd=tcp:{forward.address}:{forward.port}-:{forward.guest_port}"
    for outlet in outlets:
        relay = f"{sys.executable} -I {_RELAY} {outlet.caller} {outlet.port}".replace(",", ",,")
        backend += f",guestfwd=tcp:{outlet.address}:{outlet.port}-cmd:{relay}"
    device = f"{NIC_MODELS[model]},netdev=net{number}" + (f",mac={mac}" if mac else "")
    return ["-netdev", backend, "-device", f"{device},romfile="]
