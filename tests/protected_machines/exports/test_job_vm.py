"""Start a VM, wait for its guest, reboot it, wait for its agent: real vcsim, real agent."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.utils import timezone
from pytest_django import Settings
from pyVmomi import vim

import vsphere
from agent.client import MachineDescription
from agent.errors import AgentCertificateChanged
from console.jobs.report import SILENCE
from console.jobs.workflow import Waiting
from protected_machines.agents.connection import AnsweringAgent, dial, protect_here
from protected_machines.agents.finding import Search, newest_announcement_id
from protected_machines.errors import VmMissing
from protected_machines.exports.job_vm import JobVm, SeenGuest
from protected_machines.exports.options import VmOptions
from protected_machines.exports.steps import import_vm, new_marker
from protected_machines.exports.vcenters import connect, credentials_of
from protected_machines.models import Announcement, Machine, VCenter
from protected_machines.points.proofs import prove_chain
from protected_machines.points.taking import take_recovery_point
from tests.places.agent import RunningAgent
from tests.places.waiting import wait_until
from tests.reports import may_act
from vsphere.errors import SeveralVms
from vsphere.machine import read_vm

pytestmark = pytest.mark.django_db


class Guest:
    """The guest inside a VM of the simulator: what a hypervisor would report of it."""

    def __init__(self, vcenter: VCenter, marker: str) -> None:
        self.vcenter = vcenter
        self.marker = marker
        self.vm = JobVm(vcenter.pk, marker, may_act)

    def copy(self) -> str:
        """Make what a backup product restores: a VM with the same notes and keys; return its id."""
        assert self.vm.identity is not None
        paths = ("parent", "resourcePool", "config.annotation", "config.extraConfig")
        with connect(self.vcenter) as session:
            of = read_vm(session.calls, self.vm.identity.moid, (*paths, "config.files.vmPathName"))
            config = vim.vm.ConfigSpec(
                name="copy",
                files=vim.vm.FileInfo(vmPathName=of["config.files.vmPathName"].partition(" ")[0]),
                annotation=of["config.annotation"],
                extraConfig=of["config.extraConfig"],
            )
            folder = vim.Folder(of["parent"]._moId, session.calls.stub)
            task = folder.CreateVM_Task(config=config, pool=of["resourcePool"])
            return str(task.info.result._moId)

    def report(self, **values: str) -> None:
        """Set the guest's properties, as the lab's hypervisor does."""
        options = [vim.option.OptionValue(key=key, value=value) for key, value in values.items()]
        with connect(self.vcenter) as session:
            vm = session.find_vm(self.marker)
            assert vm is not None
            target = vim.VirtualMachine(vm.moid, session.calls.stub)
            target.ReconfigVM_Task(spec=vim.vm.ConfigSpec(extraConfig=options))

    def is_up(self, boot_id: str, address: str = "127.0.0.1") -> None:
        self.report(
            **{
                "SET.guest.ipAddress": address,
                "SET.guest.toolsRunningStatus": "guestToolsRunning",
                "guestinfo.understudy.boot_id": boot_id,
            }
        )

    def has_the_cards_of(self, description: MachineDescription, *, kept: bool = False) -> None:
        """Give the VM the network card of what its agent describes.

        kept: as an import does that keeps the MAC addresses.
        """
        with connect(self.vcenter) as session:
            vm = session.find_vm(self.marker)
            assert vm is not None
            target = vim.VirtualMachine(vm.moid, session.calls.stub)
            card = next(
                device
                for device in target.config.hardware.device
                if isinstance(device, vim.vm.device.VirtualEthernetCard)
            )
            card.macAddress = description.nics[0].mac if description.nics else card.macAddress
            card.addressType = "manual" if kept else card.addressType
            change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=card)
            target.ReconfigVM_Task(spec=vim.vm.ConfigSpec(deviceChange=[change]))

    def reboot_requests(self) -> str:
        with connect(self.vcenter) as session:
            vm = session.find_vm(self.marker)
            assert vm is not None
            of = read_vm(session.calls, vm.moid, ("config.extraConfig",))
        extra = {option.key: option.value for option in of["config.extraConfig"]}
        return str(extra.get("lab.reboot_request", "0"))


@pytest.fixture
def guest(machine: Machine, vcenter: VCenter, options: VmOptions) -> Iterator[Guest]:
    """The guest of a VM made of a machine's only point, powered off."""
    point = take_recovery_point(machine, "base_image", uuid.uuid4())
    prove_chain(machine.pk, point.pk)
    guest = Guest(vcenter, new_marker())
    made = import_vm(machine.pk, point.pk, options, guest.vm, SILENCE)
    guest.vm = replace(guest.vm, identity=made.identity)
    yield guest
    for _ in range(2):
        guest.vm.undo_import()


def is_on(guest: Guest) -> bool:
    with connect(guest.vcenter) as session:
        vm = session.find_vm(guest.marker)
    assert vm is not None
    return vm.is_on


def test_a_vm_is_started_and_stopped_once_however_often_it_is_asked(guest: Guest) -> None:
    for _ in range(2):
        guest.vm.power_on()
        assert is_on(guest)
    for _ in range(2):
        guest.vm.undo_power_on()
        assert not is_on(guest)


def test_a_vm_that_someone_removed_is_named(guest: Guest) -> None:
    guest.vm.undo_import()
    guest.vm.undo_power_on()
    with pytest.raises(VmMissing, match="someone removed it"):
        guest.vm.power_on()


def test_a_copy_of_the_vm_is_never_touched(guest: Guest) -> None:
    """A copy has the notes and keys of the VM, and so its marker."""
    copy = guest.copy()
    with connect(guest.vcenter) as session:
        session.get_vm(copy).power_on()
    guest.vm.power_on()
    guest.vm.undo_import()
    with pytest.raises(VmMissing):
        guest.vm.power_off()
    with connect(guest.vcenter) as session:
        kept = session.get_vm(copy)
        assert kept.is_on
        kept.power_off()
        kept.destroy(guest.marker)


def test_without_its_identity_a_vm_with_copies_is_refused(guest: Guest) -> None:
    copy = guest.copy()
    unknown = replace(guest.vm, identity=None)
    with pytest.raises(SeveralVms, match=copy) as caught:
        unknown.undo_import()
    assert caught.value.code == "VSPHERE-SEVERAL-VMS"
    with connect(guest.vcenter) as session:
        session.get_vm(copy).destroy(guest.marker)


def test_a_machine_shuts_down_through_its_agent(
    guest: Guest, machine: Machine, agent: RunningAgent, settings: Settings
) -> None:
    settings.UNDERSTUDY_SHUT_DOWN_SECONDS = 60
    guest.vm.power_on()
    guest.is_up("boot-1")
    search = Search(machine.pk)

    def obey() -> None:
        wait_until((agent.folder / "state/told-to-power_off").exists, "the agent's word", 60)
        with vsphere.connect(credentials) as session:
            vm = session.find_vm(guest.marker)
            assert vm is not None
            vm.power_off()

    # The database belongs to this thread.
    credentials = credentials_of(guest.vcenter)
    thread = threading.Thread(target=obey)
    thread.start()
    assert guest.vm.shut_down(search) == "its agent"
    thread.join()
    assert not is_on(guest)
    assert guest.vm.shut_down(search) == "nothing: it was off"


def test_a_machine_that_does_not_end_is_powered_off(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    agent.kill()
    guest.vm.power_on()
    guest.is_up("boot-1")
    through = guest.vm.shut_down(Search(machine.pk))
    assert through == "vSphere, which cut the power"
    assert not is_on(guest)


def announce(machine: Machine, boot_id: str, *addresses: str, port: int = 0) -> None:
    """Let the machine say where it is, as the core interface keeps it."""
    now = timezone.now()
    Announcement.objects.create(
        machine=machine,
        boot_id=boot_id,
        addresses=addresses,
        port=port or machine.port,
        first_heard_at=now,
        heard_at=now,
    )


def test_the_guest_is_waited_for_until_it_has_an_address(guest: Guest, machine: Machine) -> None:
    guest.vm.power_on()
    with pytest.raises(Waiting, match=r"Tools are not reporting\. .* has not announced itself"):
        guest.vm.wait_for_guest(Search(machine.pk))
    guest.report(**{"SET.guest.toolsRunningStatus": "guestToolsRunning"})
    with pytest.raises(Waiting, match="no address"):
        guest.vm.wait_for_guest(Search(machine.pk))
    guest.is_up("boot-1")
    seen = guest.vm.wait_for_guest(Search(machine.pk))
    assert (seen.address, seen.boot_id) == ("127.0.0.1", "boot-1")


def test_a_guest_without_tools_is_found_by_its_announcement(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    guest.vm.power_on()
    announce(machine, "boot-0", "127.0.0.1")
    search = Search(machine.pk, after_id=newest_announcement_id(machine.pk))
    with pytest.raises(Waiting, match="has not announced itself"):
        guest.vm.wait_for_guest(search)

    announce(machine, "boot-1", "127.0.0.2", "127.0.0.1")
    described = dial(machine).describe()
    if described.nics:
        with pytest.raises(
            Waiting, match=r"127.0.0.1:\d+ \(announced by its agent\): it runs on an"
        ):
            guest.vm.wait_for_guest(search)
        guest.has_the_cards_of(described)
    seen = guest.vm.wait_for_guest(search)
    assert (seen.address, seen.boot_id) == ("127.0.0.1", described.boot_id)
    assert seen.tools_boot_id == ""

    answer = guest.vm.wait_for_agent(search, "an earlier boot")
    assert (answer.host, answer.port) == ("127.0.0.1", agent.port)
    with pytest.raises(Waiting, match="still answers from before the reboot"):
        guest.vm.wait_for_agent(search, described.boot_id)


def test_an_announcement_does_not_count_for_a_vm_with_the_cards_of_the_original(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    guest.vm.power_on()
    announce(machine, "boot-1", "127.0.0.1")
    guest.has_the_cards_of(dial(machine).describe(), kept=True)
    with pytest.raises(Waiting, match="has the MAC addresses of the original"):
        guest.vm.wait_for_agent(Search(machine.pk))
    guest.is_up("boot-1")
    assert guest.vm.wait_for_agent(Search(machine.pk)).port == agent.port


def test_another_agent_at_an_announced_address_is_passed_over(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    """Unlike at the address that VMware Tools report, where it means that something is wrong."""
    guest.vm.power_on()
    announce(machine, "boot-1", "127.0.0.1")
    agent.reinstall()
    with pytest.raises(Waiting, match="another agent answers there"):
        guest.vm.wait_for_agent(Search(machine.pk))
    agent.kill()
    with pytest.raises(Waiting, match="it refuses connections"):
        guest.vm.wait_for_agent(Search(machine.pk))


def test_a_guest_reboots_through_its_agent_if_that_answers(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    guest.vm.power_on()
    guest.is_up(dial(machine).describe().boot_id)
    seen = guest.vm.wait_for_guest(Search(machine.pk))
    assert guest.vm.reboot_guest(Search(machine.pk), seen) == "its agent"
    assert (agent.folder / "state/told-to-restart").exists()
    assert guest.reboot_requests() == "0"
    again = guest.vm.reboot_guest(Search(machine.pk), replace(seen, boot_id="an earlier boot"))
    assert again == "nothing: it has rebooted already"


def test_a_guest_whose_agent_is_silent_reboots_through_its_tools_once_for_a_boot(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    agent.kill()
    guest.vm.power_on()
    guest.is_up("boot-1")
    seen = guest.vm.wait_for_guest(Search(machine.pk))
    assert guest.vm.reboot_guest(Search(machine.pk), seen) == "VMware Tools"
    assert guest.reboot_requests() == "1"
    with pytest.raises(Waiting, match="Nobody answers in the guest"):
        guest.vm.reboot_guest(Search(machine.pk), seen)
    guest.is_up("boot-2")
    assert guest.vm.reboot_guest(Search(machine.pk), seen) == "nothing: it has rebooted already"
    assert guest.reboot_requests() == "1"


def test_a_guest_in_which_nobody_answers_is_reset_at_last(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    agent.kill()
    guest.vm.power_on()
    seen = SeenGuest("127.0.0.1", "db-01", "boot-1", "")
    with pytest.raises(Waiting, match="Nobody answers in the guest"):
        guest.vm.reboot_guest(Search(machine.pk), seen)
    through = guest.vm.reboot_guest(Search(machine.pk), seen, is_last_resort=True)
    assert through == "vSphere, which reset the VM"


def test_the_agent_is_waited_for_and_must_be_the_paired_one(
    guest: Guest, machine: Machine, agent: RunningAgent
) -> None:
    def wait(boot_id_before: str = "") -> AnsweringAgent:
        return guest.vm.wait_for_agent(Search(machine.pk), boot_id_before)

    guest.vm.power_on()
    guest.is_up("boot-1")
    agent.kill()
    with pytest.raises(Waiting, match=r"Tried 127\.0\.0\.1:\d+ \(from VMware Tools\): it refuses"):
        wait()
    agent.start()
    answer = wait()
    assert (answer.host, answer.port) == ("127.0.0.1", agent.port)
    assert len(answer.description.disks) == 2
    assert AnsweringAgent.from_json(answer.to_json()) == answer
    guest.is_up("boot-2")
    with pytest.raises(Waiting, match="before the reboot"):
        wait(answer.description.boot_id)
    agent.reinstall()
    with pytest.raises(AgentCertificateChanged):
        wait()


def test_protecting_a_machine_here_makes_it_live_at_its_new_address(
    machine: Machine, vcenter: VCenter
) -> None:
    Machine.objects.update(kind="pending_failover", host="10.0.0.5", port=8006)
    for _ in range(2):
        protect_here(
            machine.pk,
            AnsweringAgent("127.0.2.1", 8007, MachineDescription(hostname="db-01")),
            vcenter_id=vcenter.pk,
            vm_moid="vm-7",
            vm_name="db-01",
        )
    machine.refresh_from_db()
    assert (machine.kind, machine.host, machine.port) == ("failed_over", "127.0.2.1", 8007)
    assert machine.is_live
    assert (machine.connection_state, machine.vcenter) == ("online", vcenter)
