"""One virtual machine at the DR site: its disks, its power, and what its guest reports."""

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lab.hypervisor.configured import ConfiguredVm
from lab.qemu import Drive, Forward, Guest, GuestFailed, Hardware, Outlet
from lab.tools_link import ToolsLink
from rescue_medium.commands import CommandFailed, run_command

log = logging.getLogger(__name__)
AGENT_PORT = 8006
# Tools that have been silent for this long count as not running.
TOOLS_SILENT_SECONDS = 20
# A guest that has not rebooted this long after it was asked to is reset.
REBOOT_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Record:
    """What the hypervisor remembers about a machine across its own restarts."""

    key: str
    moid: str
    name: str
    number: int
    vcenter: str
    reboot_requests: int = 0
    reset_requests: int = 0
    shutdown_requests: int = 0

    @property
    def address(self) -> str:
        return f"127.0.2.{self.number}"


class HostedMachine:
    """A machine in its folder, with hard links to the uploads and overlays on them."""

    def __init__(
        self, folder: Path, record: Record, agent_port: int, cores: Mapping[str, int]
    ) -> None:
        self.folder = folder
        self.record = record
        self.guest = Guest(folder, record.name)
        # Whether this process has seen it running: if so, the guest itself ended it.
        self.was_seen_running = False
        self._agent_port = agent_port
        self._outlets = tuple(
            Outlet(address, port, record.address) for address, port in cores.items()
        )
        self._link: ToolsLink | None = None
        self._left_boot_id: str | None = None
        self._kept_configuration: ConfiguredVm | None = None
        self._reboot_asked_at = 0.0

    @classmethod
    def load(cls, folder: Path, agent_port: int, cores: Mapping[str, int]) -> "HostedMachine":
        """Read back a machine from its folder.

        Raises:
            ValueError, TypeError, OSError: the folder is not that of a machine.
        """
        record = Record(**json.loads((folder / "record.json").read_text()))
        return cls(folder, record, agent_port, cores)

    def remember(self, **changes: object) -> None:
        """Change the record, also on disk."""
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".record.json"
        temporary.write_text(json.dumps(asdict(self.record), indent=2))
        temporary.rename(self.folder / "record.json")

    @property
    def configured(self) -> ConfiguredVm:
        """The machine's last known configuration in vCenter.

        Raises:
            ValueError, TypeError, KeyError, OSError: it is not known.
        """
        return ConfiguredVm.from_json((self.folder / "vm.json").read_text())

    def keep_configuration(self, vm: ConfiguredVm) -> None:
        """Keep what is needed to import the machine again after the simulator has forgotten it.

        Disks that were removed from the end of the machine are unplugged.
        """
        before = self._kept_configuration
        if vm != before:
            if before is not None and before.disks[: len(vm.disks)] == vm.disks:
                for disk in before.disks[len(vm.disks) :]:
                    self._unplug(disk.number)
            temporary = self.folder / ".vm.json"
            temporary.write_text(json.dumps(asdict(vm), indent=2))
            temporary.rename(self.folder / "vm.json")
            self._kept_configuration = vm

    def start(self, vm: ConfiguredVm, uploads: Path) -> None:
        """Boot it from its uploaded disks, or from its overlays if it has any.

        Raises:
            GuestFailed: a disk is missing or QEMU refuses.
        """
        drives = tuple(
            Drive(
                self._ensure_overlay(disk.number, disk.capacity_bytes, uploads),
                "qcow2",
                disk.controller,
                disk.unit,
                disk.bus,
            )
            for disk in vm.disks
        )
        hardware = Hardware(vm.cpus, vm.memory_bytes, drives, vm.nics, vm.firmware)
        forward = Forward(self.record.address, self._agent_port, AGENT_PORT)
        self.guest.start(hardware, (forward,), outlets=self._outlets)

    def act_on_requests(self, vm: ConfiguredVm) -> None:
        """Do what was requested in vCenter since the last poll: reset, reboot, shut down."""
        record = self.record
        if vm.reset_requests > record.reset_requests:
            log.info("reset vm=%s", record.name)
            self._leave_boot()
            self.guest.reset()
        elif vm.reboot_requests > record.reboot_requests:
            log.info("reboot guest vm=%s", record.name)
            self._leave_boot()
            if not self._ask("reboot"):
                self.guest.reset()
        elif vm.shutdown_requests > record.shutdown_requests:
            log.info("shut down guest vm=%s", record.name)
            if not self._ask("shutdown"):
                self.guest.press_power_button()
        else:
            return
        self.remember(
            reboot_requests=vm.reboot_requests,
            reset_requests=vm.reset_requests,
            shutdown_requests=vm.shutdown_requests,
        )

    def show_screen(self, folder: Path) -> None:
        """Take a picture of the screen if somebody wants to see it: see lab/vcsim/screen.go."""
        wanted = folder / "screen.wanted"
        if wanted.exists():
            with contextlib.suppress(GuestFailed):
                self.guest.screenshot(folder / ".screen.png")
                (folder / ".screen.png").rename(folder / "screen.png")
            wanted.unlink(missing_ok=True)

    def guest_report(self) -> dict[str, str]:
        """Return what vCenter should show about the guest now, as extra configuration."""
        if self._link is None or not self._link.is_open:
            self._link = ToolsLink(self.guest.tools_socket)
        facts = self._link.facts(TOOLS_SILENT_SECONDS)
        if facts is not None and facts["boot_id"] == self._left_boot_id:
            facts = None
        if facts is None:
            self._reset_when_it_hangs()
            return silent_report()
        self._left_boot_id = None
        address = self.record.address if facts.get("addresses") else ""
        return {
            "SET.guest.ipAddress": address,
            "SET.guest.hostName": str(facts.get("hostname", "")),
            "SET.guest.toolsRunningStatus": "guestToolsRunning",
            "SET.guest.toolsStatus": "toolsOk",
            "guestinfo.understudy.boot_id": facts["boot_id"],
            "guestinfo.understudy.drivers": ",".join(map(str, facts.get("drivers", ()))),
        }

    def cut_power(self) -> None:
        """End QEMU."""
        self.guest.kill()
        self.was_seen_running = False
        self._left_boot_id = None
        if self._link is not None:
            self._link.close()
            self._link = None

    def remove(self) -> None:
        """End QEMU and delete the machine's files."""
        self.cut_power()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unplug(self, number: int) -> None:
        if self.guest.is_running:
            try:
                self.guest.unplug(number)
            except GuestFailed as error:
                log.warning("the guest keeps a disk until it is powered off error=%s", error)
                return
        log.info("disk removed vm=%s number=%d", self.record.name, number)
        for suffix in ("qcow2", "vmdk"):
            (self.folder / f"disk-{number}.{suffix}").unlink(missing_ok=True)

    def _ensure_overlay(self, number: int, capacity_bytes: int, uploads: Path) -> Path:
        overlay = self.folder / f"disk-{number}.qcow2"
        if overlay.exists():
            return overlay
        backing = self.folder / f"disk-{number}.vmdk"
        unfinished = self.folder / f".disk-{number}.qcow2"
        try:
            if not backing.exists():
                os.link(uploads / self.record.moid / backing.name, backing)
            run_command(
                *("qemu-img", "create", "-q", "-f", "qcow2"),
                *("-b", backing.name, "-F", "vmdk", unfinished.name, str(capacity_bytes)),
                folder=self.folder,
            )
            unfinished.rename(overlay)
        except (OSError, CommandFailed) as error:
            raise GuestFailed(f"{self.record.name}: disk {number} is unusable: {error}") from error
        return overlay

    def _leave_boot(self) -> None:
        facts = self._link.facts(float("inf")) if self._link is not None else None
        self._left_boot_id = facts["boot_id"] if facts else None
        self._reboot_asked_at = time.monotonic()

    def _reset_when_it_hangs(self) -> None:
        waited_seconds = time.monotonic() - self._reboot_asked_at
        if self._left_boot_id is not None and waited_seconds > REBOOT_LIMIT_SECONDS:
            log.warning("the guest did not reboot, resetting it vm=%s", self.record.name)
            self._reboot_asked_at = time.monotonic()
            with contextlib.suppress(GuestFailed):
                self.guest.reset()

    def _ask(self, act: str) -> bool:
        return self._link is not None and self._link.ask(act)


def silent_report() -> dict[str, str]:
    """Return what vCenter should show about a guest that reports nothing."""
    return {
        "SET.guest.ipAddress": "",
        "SET.guest.hostName": "",
        "SET.guest.toolsRunningStatus": "guestToolsNotRunning",
        "SET.guest.toolsStatus": "toolsNotRunning",
        "guestinfo.understudy.boot_id": "",
    }
