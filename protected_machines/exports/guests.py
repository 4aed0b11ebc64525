"""Start a VM that was made of a recovery point, and wait for the machine in it.

Step functions on ids, as in `steps`. To wait, they raise `Waiting`, which frees the worker. What
touches the VM calls `check` right before, which raises if this worker may not act any more.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from agent.errors import AgentUnreachable
from console.jobs.workflow import Waiting
from protected_machines.agents.connection import PING_TIMEOUT_SECONDS, AnsweringAgent, dial
from protected_machines.errors import VmMissing
from protected_machines.exports.vcenters import connect, get_vcenter
from protected_machines.models import Machine
from vsphere import Vm

logger = logging.getLogger(__name__)

Check = Callable[[], None]


@contextmanager
def _vm(vcenter_id: UUID | str, marker: str) -> Iterator[Vm]:
    with connect(get_vcenter(vcenter_id)) as session:
        vm = session.find_vm_by_marker(marker)
        if vm is None:
            raise VmMissing(
                "The VM that this job created is no longer in vSphere; someone removed "
                "it. Start again."
            )
        yield vm


def power_on_vm(vcenter_id: UUID | str, marker: str, check: Check) -> None:
    """Start the VM.

    Idempotent: a running VM is left alone.
    Fails with MACHINE-VM-MISSING, VSPHERE-….
    """
    with _vm(vcenter_id, marker) as vm:
        check()
        vm.power_on()


def undo_power_on_vm(vcenter_id: UUID | str, marker: str, check: Check) -> None:
    """Power the VM off, if it is there and on."""
    with connect(get_vcenter(vcenter_id)) as session:
        vm = session.find_vm_by_marker(marker)
        if vm is not None:
            check()
            vm.power_off()


def wait_for_guest(vcenter_id: UUID | str, marker: str) -> dict[str, Any]:
    """Return the guest's `address`, `hostname` and `boot_id` once VMware Tools reports them.

    Fails with MACHINE-VM-MISSING, VSPHERE-….

    Raises:
        Waiting: it does not report them yet.
    """
    with _vm(vcenter_id, marker) as vm:
        guest = vm.guest()
    if not guest.tools_running:
        raise Waiting("The guest is starting. VMware Tools is not reporting yet.")
    if not guest.address:
        raise Waiting("The guest is running, but has no address yet.")
    return {"address": guest.address, "hostname": guest.hostname, "boot_id": guest.boot_id}


def reboot_guest(vcenter_id: UUID | str, marker: str, boot_id_before: str, check: Check) -> None:
    """Ask the guest to reboot, unless it has rebooted since `boot_id_before`.

    Idempotent: a guest with another boot id has rebooted, and one whose tools are down is about to.
    Fails with MACHINE-VM-MISSING, VSPHERE-….
    """
    with _vm(vcenter_id, marker) as vm:
        guest = vm.guest()
        if guest.tools_running and (guest.boot_id or "") == boot_id_before:
            check()
            vm.reboot_guest()


def wait_for_agent(
    machine_id: UUID | str, vcenter_id: UUID | str, marker: str, boot_id_before: str = ""
) -> AnsweringAgent:
    """Return the machine's agent once it answers from the VM.

    The agent must present the certificate that was pinned when the machine was paired. With
    `boot_id_before`, it must have rebooted since that boot.

    Fails with AGENT-… if another agent answers or this core is rejected; MACHINE-VM-MISSING.

    Raises:
        Waiting: the agent does not answer yet, or the reboot has not finished.
    """
    guest = wait_for_guest(vcenter_id, marker)
    if boot_id_before and guest["boot_id"] == boot_id_before:
        raise Waiting("The guest has not rebooted yet.")
    machine = Machine.objects.get(pk=machine_id)
    host, port = guest["address"], machine.port
    try:
        description = dial(machine, PING_TIMEOUT_SECONDS, host=host, port=port).describe()
    except AgentUnreachable as error:
        raise Waiting(f"The agent at {host}:{port} is not responding yet.") from error
    if boot_id_before and description.boot_id == boot_id_before:
        raise Waiting(f"The agent at {host}:{port} still answers from before the reboot.")
    return AnsweringAgent(host, port, description)


def power_off_vm(vcenter_id: UUID | str, marker: str, check: Check) -> None:
    """Power the VM off at once, without shutting the guest down.

    Idempotent: a VM that is off is left alone.
    Fails with MACHINE-VM-MISSING, VSPHERE-….
    """
    with _vm(vcenter_id, marker) as vm:
        check()
        vm.power_off()


def is_vm_on(vcenter_id: UUID | str, marker: str) -> bool:
    """Tell whether the VM is on; fails with MACHINE-VM-MISSING, VSPHERE-…."""
    with _vm(vcenter_id, marker) as vm:
        return vm.is_on


def remove_vm(vcenter_id: UUID | str, marker: str, check: Check) -> None:
    """Remove the VM and its disks, if it is there. It must be off.

    Raises:
        WrongPowerState: it is on.
    """
    with connect(get_vcenter(vcenter_id)) as session:
        vm = session.find_vm_by_marker(marker)
        if vm is not None:
            check()
            vm.destroy(marker)


def has_vm(vcenter_id: UUID | str, marker: str) -> bool:
    """Tell whether the VM exists; fails with VSPHERE-…."""
    with connect(get_vcenter(vcenter_id)) as session:
        return session.find_vm_by_marker(marker) is not None
