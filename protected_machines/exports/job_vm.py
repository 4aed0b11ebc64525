"""The VM that a job made of a recovery point: start it, wait for the machine in it, remove it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agent.errors import AgentUnreachable
from console.jobs.workflow import StepContext, Waiting
from protected_machines.agents.connection import PING_TIMEOUT_SECONDS, AnsweringAgent, dial
from protected_machines.errors import VmMissing
from protected_machines.exports.vcenters import connect, get_vcenter
from protected_machines.models import Machine
from protected_machines.ownership import Tenure
from vsphere import Vm, VmIdentity


@dataclass(frozen=True)
class SeenGuest:
    """What VMware Tools reports of a guest that is up."""

    address: str
    hostname: str | None
    # Changes with each start; None if the guest does not report it.
    boot_id: str | None


@dataclass(frozen=True)
class JobVm:
    """A job's VM, known by the marker on it, and by its identity once it is imported.

    Clones and restored copies have the marker, too. They are never touched.

    Every act can be repeated. Acts fail with VSPHERE-…, and with MACHINE-VM-MISSING where the VM
    has to be there. To wait, they raise `Waiting`, which frees the worker.
    """

    vcenter_id: UUID
    marker: str
    # Called right before the VM is touched; raises if this worker may not act any more.
    check: Callable[[], None]
    identity: VmIdentity | None = None

    def power_on(self) -> None:
        """Start the VM; one that runs is left alone."""
        with self._existing() as vm:
            self.check()
            vm.power_on()

    def power_off(self) -> None:
        """Power the VM off at once, without shutting the guest down."""
        with self._existing() as vm:
            self.check()
            vm.power_off()

    def undo_power_on(self) -> None:
        """Power the VM off, if it is there."""
        with self._if_there() as vm:
            if vm is not None:
                self.check()
                vm.power_off()

    def remove(self) -> None:
        """Remove the VM and its disks, if it is there. It must be off.

        Raises:
            WrongPowerState: it is on.
        """
        with self._if_there() as vm:
            if vm is not None:
                self.check()
                vm.destroy(self.marker)

    def undo_import(self) -> None:
        """Power the VM off and remove it, if it is there."""
        with self._if_there() as vm:
            if vm is not None:
                self.check()
                vm.power_off()
                vm.destroy(self.marker)

    def exists(self) -> bool:
        """Tell whether the VM is in vSphere."""
        with self._if_there() as vm:
            return vm is not None

    def is_on(self) -> bool:
        """Tell whether the VM is on."""
        with self._existing() as vm:
            return vm.is_on

    def wait_for_guest(self) -> SeenGuest:
        """Return the guest once VMware Tools reports its address.

        Raises:
            Waiting: it does not report it yet.
        """
        with self._existing() as vm:
            guest = vm.guest()
        if not guest.tools_running:
            raise Waiting("The guest is starting. VMware Tools is not reporting yet.")
        if not guest.address:
            raise Waiting("The guest is running, but has no address yet.")
        return SeenGuest(guest.address, guest.hostname, guest.boot_id)

    def reboot_guest(self, boot_id_before: str) -> None:
        """Ask the guest to reboot, unless it has rebooted since `boot_id_before`.

        A guest with another boot ID has rebooted, and one whose tools are down is about to.
        """
        with self._existing() as vm:
            guest = vm.guest()
            if guest.tools_running and (guest.boot_id or "") == boot_id_before:
                self.check()
                vm.reboot_guest()

    def wait_for_agent(self, machine_id: UUID, boot_id_before: str = "") -> AnsweringAgent:
        """Return the machine's agent once it answers from the VM.

        The agent must present the certificate that was pinned when the machine was paired. With
        `boot_id_before`, it must have rebooted since that boot. Fails with AGENT-… if another
        agent answers or this core is rejected.

        Raises:
            Waiting: the agent does not answer yet, or the reboot has not finished.
        """
        guest = self.wait_for_guest()
        if boot_id_before and guest.boot_id == boot_id_before:
            raise Waiting("The guest has not rebooted yet.")
        machine = Machine.objects.get(pk=machine_id)
        host, port = guest.address, machine.port
        try:
            description = dial(machine, PING_TIMEOUT_SECONDS, host=host, port=port).describe()
        except AgentUnreachable as error:
            raise Waiting(f"The agent at {host}:{port} is not responding yet.") from error
        if boot_id_before and description.boot_id == boot_id_before:
            raise Waiting(f"The agent at {host}:{port} still answers from before the reboot.")
        return AnsweringAgent(host, port, description)

    @contextmanager
    def _if_there(self) -> Iterator[Vm | None]:
        with connect(get_vcenter(self.vcenter_id)) as session:
            yield session.find_vm(self.marker, self.identity)

    @contextmanager
    def _existing(self) -> Iterator[Vm]:
        with self._if_there() as vm:
            if vm is None:
                raise VmMissing(
                    "The VM that this job created is no longer in vSphere; someone removed "
                    "it. Start again."
                )
            yield vm


def owned_vm(
    context: StepContext,
    vcenter_id: UUID | str,
    marker: str,
    tenure: Tenure,
    identity: VmIdentity | None,
) -> JobVm:
    """Return the VM of a job that may touch it only while its worker has it and `tenure` holds."""

    def check() -> None:
        context.check_lease()
        tenure.check()

    return JobVm(UUID(str(vcenter_id)), marker, check, identity)


@dataclass(frozen=True)
class ImportedVm:
    """A complete VM, as vSphere knows it."""

    identity: VmIdentity
    name: str

    def to_json(self) -> dict[str, Any]:
        """Return it as the output of a step."""
        return {
            "vm_moid": self.identity.moid,
            "vm_instance_uuid": self.identity.instance_uuid,
            "vm_name": self.name,
        }


def identity_in(output: Mapping[str, Any]) -> VmIdentity | None:
    """Return the identity of the VM that a step's output or a row describes.

    None before the import, and none where only the marker was kept. Jobs of older versions did
    not keep the instance UUID.
    """
    moid = output.get("vm_moid")
    return VmIdentity(moid, output.get("vm_instance_uuid", "")) if moid else None
