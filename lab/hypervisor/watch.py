"""Poll the simulated vCenter every second, and make QEMU follow it."""

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from lab.hypervisor.configured import ConfiguredVm
from lab.hypervisor.machine import HostedMachine, Record, silent_report
from lab.hypervisor.restore import import_again
from lab.hypervisor.vcenter import Vcenter, VcenterUnreachable
from lab.processes import OwnProcess
from lab.qemu import GuestFailed
from rescue_medium.commands import CommandFailed

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 1.0
HIGHEST_NUMBER = 250


class Hypervisor:
    """All machines of one simulated vCenter that have uploaded disks."""

    def __init__(
        self,
        vcenter: Vcenter,
        state_path: Path,
        uploads: Path,
        folder: Path,
        agent_port: int,
        cores: Mapping[str, int],
    ) -> None:
        self._vcenter = vcenter
        self._state_path = state_path
        self._uploads = uploads
        self._folder = folder
        self._agent_port = agent_port
        self._cores = cores
        self._machines: dict[str, HostedMachine] = {}
        self._reported: dict[str, dict[str, str]] = {}
        self._instance_seen = ""
        self._load()

    def run(self, stop: threading.Event) -> None:
        """Poll and act until told to stop. The machines keep running afterwards."""
        was_reachable = True
        while not stop.is_set():
            try:
                self.poll_once()
                was_reachable = True
            except VcenterUnreachable as error:
                if was_reachable:
                    log.warning("vCenter does not answer error=%s", error)
                was_reachable = False
            stop.wait(INTERVAL_SECONDS)
        self._vcenter.close()

    def poll_once(self) -> None:
        """Compare vCenter with what is running, and act on each difference.

        Raises:
            VcenterUnreachable: vCenter could not be read; nothing was changed.
        """
        instance = self._instance()
        vms = self._vcenter.read_vms()
        if instance != self._instance_seen:
            self._instance_seen = instance
            self._reported.clear()
            if self._import_forgotten({vm.key for vm in vms}, instance):
                vms = self._vcenter.read_vms()
        for vm in vms:
            try:
                self._tend(vm, instance)
            except (GuestFailed, CommandFailed, OSError) as error:
                self._give_up(vm, error)
        self._forget_removed({vm.key for vm in vms}, instance)

    def _load(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self._folder.iterdir()):
            try:
                machine = HostedMachine.load(folder, self._agent_port, self._cores)
            except (OSError, ValueError, TypeError) as error:
                log.warning("not a machine's folder path=%s error=%s", folder, error)
                continue
            self._machines[machine.record.key] = machine
            running = "running" if machine.guest.is_running else "off"
            log.info("found vm=%s moid=%s %s", machine.record.name, machine.record.moid, running)

    def _instance(self) -> str:
        """Return an id of the simulator's process."""
        try:
            process = OwnProcess.of(json.loads(self._state_path.read_text())["pid"])
        except (OSError, ValueError, KeyError) as error:
            raise VcenterUnreachable(f"its process is unknown: {error}") from error
        return f"{process.host_boot_id}-{process.pid}-{process.started_ticks}"

    def _tend(self, vm: ConfiguredVm, instance: str) -> None:
        machine = self._machines.get(vm.key)
        if machine is not None and self._is_another(machine, vm, instance):
            self._remove(machine)
            machine = None
        if machine is None:
            if not vm.is_powered_on or not self._has_uploads(vm):
                return
            machine = self._adopt(vm, instance)
        elif machine.record.vcenter != instance or machine.record.moid != vm.moid:
            machine.remember(
                vcenter=instance,
                moid=vm.moid,
                reboot_requests=vm.reboot_requests,
                reset_requests=vm.reset_requests,
                shutdown_requests=vm.shutdown_requests,
            )
        machine.keep_configuration(vm)
        if vm.is_powered_on:
            self._keep_running(machine, vm)
        elif machine.guest.is_running or machine.was_seen_running:
            log.info("power off vm=%s", vm.name)
            machine.cut_power()
            self._report(vm.moid, silent_report())

    @staticmethod
    def _is_another(machine: HostedMachine, vm: ConfiguredVm, instance: str) -> bool:
        """Tell whether the machine was removed, and this one created in its place."""
        return machine.record.vcenter == instance and machine.record.moid != vm.moid

    def _has_uploads(self, vm: ConfiguredVm) -> bool:
        return any((self._uploads / vm.moid).glob("disk-*.vmdk"))

    def _adopt(self, vm: ConfiguredVm, instance: str) -> HostedMachine:
        record = Record(
            key=vm.key,
            moid=vm.moid,
            name=vm.name,
            number=self._free_number(),
            vcenter=instance,
            reboot_requests=vm.reboot_requests,
            reset_requests=vm.reset_requests,
            shutdown_requests=vm.shutdown_requests,
        )
        machine = HostedMachine(self._folder / vm.key, record, self._agent_port, self._cores)
        machine.remember()
        self._machines[vm.key] = machine
        return machine

    def _free_number(self) -> int:
        taken = {machine.record.number for machine in self._machines.values()}
        for number in range(1, HIGHEST_NUMBER + 1):
            if number not in taken:
                return number
        raise GuestFailed(f"all {HIGHEST_NUMBER} addresses of the DR site are taken")

    def _keep_running(self, machine: HostedMachine, vm: ConfiguredVm) -> None:
        if not machine.guest.is_running:
            if machine.was_seen_running:
                log.info("the guest shut down vm=%s", vm.name)
                machine.cut_power()
                self._report(vm.moid, silent_report())
                self._vcenter.power_off(vm.moid)
                return
            log.info("power on vm=%s address=%s", vm.name, machine.record.address)
            machine.start(vm, self._uploads)
        machine.was_seen_running = True
        machine.act_on_requests(vm)
        machine.show_screen(self._uploads / vm.moid)
        self._report(vm.moid, machine.guest_report())

    def _report(self, moid: str, report: dict[str, str]) -> None:
        if self._reported.get(moid) != report:
            self._vcenter.report(moid, report)
            self._reported[moid] = report

    def _give_up(self, vm: ConfiguredVm, error: Exception) -> None:
        """Power a machine that cannot run off in vCenter; its configuration gives the reason."""
        log.error("cannot run vm=%s error=%s", vm.name, error)
        self._report(vm.moid, {**silent_report(), "lab.error": str(error)[:2000]})
        self._vcenter.power_off(vm.moid)

    def _import_forgotten(self, present_keys: set[str], instance: str) -> bool:
        """Import again what a restarted simulator has forgotten; return whether there was any."""
        forgotten = [
            machine
            for key, machine in self._machines.items()
            if key not in present_keys and machine.record.vcenter != instance
        ]
        for machine in forgotten:
            log.info("vCenter has forgotten it, importing it again vm=%s", machine.record.name)
            try:
                import_again(machine, self._vcenter)
            except (VcenterUnreachable, ValueError, TypeError, KeyError, OSError) as error:
                log.error("it could not be imported vm=%s error=%s", machine.record.name, error)
        return bool(forgotten)

    def _forget_removed(self, present_keys: set[str], instance: str) -> None:
        """Remove what was deleted in vCenter."""
        for key, machine in list(self._machines.items()):
            if key not in present_keys and machine.record.vcenter == instance:
                self._remove(machine)

    def _remove(self, machine: HostedMachine) -> None:
        log.info("removed in vCenter vm=%s", machine.record.name)
        machine.remove()
        self._reported.pop(machine.record.moid, None)
        del self._machines[machine.record.key]
