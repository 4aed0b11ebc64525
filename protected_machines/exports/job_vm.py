"""The VM that a job made of a recovery point: start it, wait for the machine in it, remove it."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from agent.client import AgentClient
from agent.errors import AgentError, RequestRefused
from console.jobs.workflow import StepContext, Waiting
from protected_machines.agents.connection import AnsweringAgent, dial
from protected_machines.agents.finding import Place, Search, find_agent
from protected_machines.errors import SignInStopped, VmMissing
from protected_machines.exports.vcenters import (
    LOOK_AGAIN_SECONDS,
    get_vcenter,
    lend_session,
    until_it_answers,
)
from protected_machines.models import Machine
from protected_machines.ownership import Tenure
from vsphere import Guest, Vm, VmIdentity
from vsphere.errors import VSphereError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenGuest:
    """A guest that is up, by its agent or by its VMware Tools, whichever was first."""

    address: str
    hostname: str
    # Changes with each start.
    boot_id: str
    # What VMware Tools report of it; empty if they do not.
    tools_boot_id: str


_LOOK_SECONDS = 1.0
_REBOOTED_ALREADY = "nothing: it has rebooted already"
# What vSphere did when it was asked to reboot a guest, in words.
_BY_VSPHERE = {"guest": "VMware Tools", "reset": "vSphere, which reset the VM"}


@dataclass(frozen=True)
class JobVm:
    """A job's VM, known by the marker on it, and by its identity once it is imported.

    Clones and restored copies have the marker, too. They are never touched.

    Every act can be repeated. Acts fail with VSPHERE-…, and with MACHINE-VM-MISSING where the VM
    has to be there. To wait, they raise `Waiting`, which frees the worker; so does the look at the
    VM before each act, while vSphere cannot be reached.
    """

    vcenter_id: UUID
    marker: str
    # Called right before the VM is touched; raises if this worker may not act any more.
    check: Callable[[], None]
    identity: VmIdentity | None = None
    # What the vCenter logs its calls under.
    operation: str = ""

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

    def shut_down(self, search: Search) -> str:
        """Switch the machine off, so that it may be started again; return through what.

        Its agent is asked first, then VMware Tools. What has not ended in time is powered off.
        """
        with self._existing() as vm:
            if not vm.is_on:
                return "nothing: it was off"
            through = self._ask_to_shut_down(vm, search)
            ends_at = time.monotonic() + settings.UNDERSTUDY_SHUT_DOWN_SECONDS
            while through and time.monotonic() < ends_at:
                vm.refresh()
                if not vm.is_on:
                    return through
                time.sleep(_LOOK_SECONDS)
            self.check()
            vm.power_off()
            return "vSphere, which cut the power"

    def _ask_to_shut_down(self, vm: Vm, search: Search) -> str:
        """Return who was asked; empty if nobody answers in the guest."""
        self.check()
        try:
            agent = self._find_agent(vm, vm.guest(), search)
            if _client_of(search, agent).power_off(agent.description.boot_id):
                return "its agent"
        except (Waiting, AgentError) as error:
            logger.info("agent not asked to shut down moid=%s reason=%s", vm.moid, error)
        return "VMware Tools" if vm.shut_down_guest() else ""

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
        with self._looking() as vm:
            return vm.is_on

    def wait_for_guest(self, search: Search) -> SeenGuest:
        """Return the guest once VMware Tools report it, or its agent answers.

        Raises:
            Waiting: nobody has heard of it yet; the text says what was tried where.
        """
        with self._looking() as vm:
            guest = vm.guest()
            tools_boot_id = guest.boot_id or ""
            if guest.tools_running and guest.address and tools_boot_id:
                return SeenGuest(guest.address, guest.hostname or "", tools_boot_id, tools_boot_id)
            agent = self._find_agent(vm, guest, search)
        described = agent.description
        return SeenGuest(agent.host, described.hostname, described.boot_id, tools_boot_id)

    def remove_settings_disk(self) -> str:
        """Remove the disk that told the agent where this core is; return why it stays, if it does.

        The agent has read it, and nothing depends on the removal.
        """
        try:
            with self._existing() as vm:
                self.check()
                vm.remove_temporary_disk()
        except (SignInStopped, VSphereError) as error:
            logger.warning("settings disk stays marker=%s error=%s", self.marker, error)
            return str(error)
        return ""

    def reboot_guest(
        self, search: Search, before: SeenGuest, *, is_last_resort: bool = False
    ) -> str:
        """Have the guest reboot, unless it has since `before`; return through what.

        Its agent is asked first, then VMware Tools. A guest in which neither answers has probably
        been asked before and is about to reboot. As the last resort, vSphere resets the VM.

        Raises:
            Waiting: nobody answers in the guest.
        """
        with self._existing() as vm:
            guest = vm.guest()
            try:
                agent = self._find_agent(vm, guest, search)
                self.check()
                is_that_boot = _client_of(search, agent).restart(before.boot_id)
                return "its agent" if is_that_boot else _REBOOTED_ALREADY
            except (Waiting, AgentError) as error:
                trouble = error
            if guest.tools_running and (guest.boot_id or "") != before.tools_boot_id:
                return _REBOOTED_ALREADY
            if guest.tools_running or is_last_resort or isinstance(trouble, RequestRefused):
                self.check()
                return _BY_VSPHERE[vm.reboot_guest()]
            raise Waiting(f"Nobody answers in the guest: {trouble}") from trouble

    def wait_for_agent(self, search: Search, boot_id_before: str = "") -> AnsweringAgent:
        """Return the machine's agent once it answers from the VM.

        It is looked for where VMware Tools say that the guest is, where it announced itself, and
        where a person says that it is. The agent must present the certificate that was pinned when
        the machine was paired. With `boot_id_before`, it must have rebooted since that boot. Fails
        with AGENT-… if another agent answers where the tools say, or rejects this core.

        Raises:
            Waiting: the agent does not answer yet, or the reboot has not finished.
        """
        with self._looking() as vm:
            return self._find_agent(vm, vm.guest(), search, boot_id_before)

    def _find_agent(
        self, vm: Vm, guest: Guest, search: Search, boot_id_before: str = ""
    ) -> AnsweringAgent:
        machine = Machine.objects.get(pk=search.machine_id)
        places = search.places()
        # The original may run besides the VM, and only their network cards tell the two apart.
        nics = vm.hardware().nics if places else ()
        has_kept_macs = any(nic.is_mac_kept for nic in nics)
        if has_kept_macs:
            places = [place for place in places if place.is_typed]
        told = []
        if guest.tools_running and guest.address:
            told = [Place(guest.address, machine.port, "from VMware Tools", is_certain=True)]
        return find_agent(
            machine,
            [*told, *places],
            {nic.mac for nic in nics},
            boot_id_before=boot_id_before,
            waiting_for=_waiting_for(guest, bool(places), has_kept_macs),
        )

    @contextmanager
    def _if_there(self) -> Iterator[Vm | None]:
        vcenter = get_vcenter(self.vcenter_id)
        with ExitStack() as stack:
            with until_it_answers(vcenter):
                session = stack.enter_context(lend_session(vcenter, self.operation))
                found = session.find_vm(self.marker, self.identity)
            yield found

    @contextmanager
    def _existing(self) -> Iterator[Vm]:
        with self._if_there() as vm:
            if vm is None:
                raise VmMissing(
                    "The VM that this job created is no longer in vSphere; someone removed "
                    "it. Start again."
                )
            yield vm

    @contextmanager
    def _looking(self) -> Iterator[Vm]:
        """Yield the VM to what only looks at it, and waits if it cannot."""
        try:
            with until_it_answers(get_vcenter(self.vcenter_id)), self._existing() as vm:
                yield vm
        except Waiting as waiting:
            waiting.again_in_seconds = LOOK_AGAIN_SECONDS
            raise


def _client_of(search: Search, agent: AnsweringAgent) -> AgentClient:
    return dial(Machine.objects.get(pk=search.machine_id), host=agent.host, port=agent.port)


def _waiting_for(guest: Guest, has_places: bool, has_kept_macs: bool) -> list[str]:
    """Return where the machine's address may still come from, for people."""
    if guest.tools_running and not guest.address:
        tools = "VMware Tools run in the guest, but report no address yet."
    elif not guest.tools_running:
        tools = "VMware Tools are not reporting."
    else:
        tools = ""
    if has_kept_macs:
        heard = (
            "What the machine announces does not count: the VM has the MAC addresses of the "
            "original, which may be what announces itself."
        )
    else:
        heard = "" if has_places else "The machine has not announced itself to this core."
    return [text for text in (tools, heard) if text]


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

    return JobVm(UUID(str(vcenter_id)), marker, check, identity, operation_of(context))


def operation_of(context: StepContext) -> str:
    """Return what the vCenter logs a job's calls under."""
    return f"understudy-job-{context.job_id}"


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
