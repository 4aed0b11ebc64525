"""The settings disk of a new VM: its last disk, read by the point's agent, removed afterwards."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.delegation import delegation_name
from agent.home import Home
from agent.settings import SettingsRefused, read_settings
from agent.settings_disk import SETTINGS_DISK_BYTES
from agent.state import AgentState
from console.identity import CoreIdentity, fingerprint_of, this_core
from console.jobs.report import SILENCE
from lab.vcsim.process import Vcsim
from protected_machines.agents.connection import own_home
from protected_machines.agents.delegation import issue_delegation
from protected_machines.agents.settings_disk import settings_disk_of
from protected_machines.exports import settings_disk
from protected_machines.exports.job_vm import ImportedVm, JobVm
from protected_machines.exports.options import VmOptions
from protected_machines.exports.settings_disk import with_settings_disk
from protected_machines.exports.steps import import_vm, new_marker, vm_spec
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.proofs import get_manifest, prove_chain
from protected_machines.points.taking import take_recovery_point
from recovery_store.manifest import Manifest
from recovery_store.vmdk.disk import MergedDisk
from recovery_store.vmdk.reader import FilePool, StreamFile
from tests.places.agent import MIB, RunningAgent, make_core
from tests.reports import may_act
from vsphere.hardware import AttachedDisk

pytestmark = pytest.mark.django_db
HOST = "192.0.2.10"


@pytest.fixture(autouse=True)
def _known_address(settings: Any) -> None:
    settings.UNDERSTUDY_HOST_FOR_MACHINES = HOST


@pytest.fixture
def point(machine: Machine) -> RecoveryPoint:
    return take_recovery_point(machine, "base_image", uuid.uuid4())


@pytest.fixture
def vm(vcenter: VCenter) -> Iterator[JobVm]:
    """A job's VM that does not exist yet."""
    one = JobVm(vcenter.pk, new_marker(), may_act)
    yield one
    one.undo_import()


def make(point: RecoveryPoint, options: VmOptions, vm: JobVm) -> ImportedVm:
    prove_chain(point.machine_id, point.pk)
    return import_vm(point.machine_id, point.pk, options, vm, SILENCE)


def disks_of(vcenter: VCenter, made: ImportedVm) -> tuple[AttachedDisk, ...]:
    with connect(vcenter) as session:
        return session.get_vm(made.identity.moid).hardware().disks


def content_of(vmdk: Path) -> bytes:
    pool = FilePool()
    with MergedDisk([StreamFile(vmdk, pool)], pool) as disk:
        return disk.read(0, disk.capacity_bytes)


def homes_believed(agent: RunningAgent, machine: Machine, disk: bytes) -> tuple[Home, ...]:
    state = AgentState(agent.folder / "state")
    return read_settings(disk, state, fingerprint_of(machine.agent_certificate_pem)).homes


def test_the_agent_of_the_point_reads_from_the_last_disk_where_this_core_is(
    machine: Machine,
    agent: RunningAgent,
    point: RecoveryPoint,
    options: VmOptions,
    vm: JobVm,
    vcenter: VCenter,
    vcsim: Vcsim,
) -> None:
    made = make(point, options, vm)
    disks = disks_of(vcenter, made)
    assert [disk.capacity_bytes for disk in disks] == [4 * MIB, 2 * MIB, SETTINGS_DISK_BYTES]
    units = [disk.slot.unit for disk in disks if disk.slot]
    assert units == sorted(units)
    disk = content_of(vcsim.disk_path(made.identity.moid, 2))
    expected = replace(own_home(machine.pk), host=HOST)
    assert homes_believed(agent, machine, disk) == (expected,)


def test_it_is_removed_once_and_the_machine_s_own_disks_stay(
    point: RecoveryPoint,
    options: VmOptions,
    vm: JobVm,
    vcenter: VCenter,
) -> None:
    made = make(point, options, vm)
    vm.power_on()
    for _ in range(2):
        assert vm.remove_settings_disk() == ""
        sizes = [disk.capacity_bytes for disk in disks_of(vcenter, made)]
        assert sizes == [4 * MIB, 2 * MIB]


def test_what_keeps_it_from_being_removed_is_said_and_raises_nothing(
    point: RecoveryPoint,
    options: VmOptions,
    vm: JobVm,
    vcsim: Vcsim,
) -> None:
    make(point, options, vm)
    vcsim.faults(missing_privileges=["VirtualMachine.Config.RemoveDisk"])
    try:
        assert "VirtualMachine.Config.RemoveDisk" in vm.remove_settings_disk()
    finally:
        vcsim.no_faults()


def added(manifest: Manifest, vcenter: VCenter, options: VmOptions) -> int:
    """Return how many disks are added."""
    spec, uploads = with_settings_disk(vm_spec(manifest, options), manifest, vcenter)
    assert len(uploads) == len(spec.disks) - len(manifest.disks)
    return len(uploads)


def test_it_is_added_only_where_it_is_of_use(
    machine: Machine,
    point: RecoveryPoint,
    options: VmOptions,
    vcenter: VCenter,
    settings: Any,
) -> None:
    manifest = get_manifest(machine.pk, point.pk)
    assert added(manifest, vcenter, options) == 1
    older = {**manifest.description, "reads_settings_disk": False}
    assert added(replace(manifest, description=older), vcenter, options) == 0
    settings.UNDERSTUDY_HOST_FOR_MACHINES = ""
    assert vcenter.host == "127.0.0.1"
    assert added(manifest, vcenter, options) == 0
    settings.UNDERSTUDY_HOST_FOR_MACHINES = HOST
    Machine.objects.update(agent_certificate_pem="")
    assert added(manifest, vcenter, options) == 0


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1", "::1"])
def test_an_address_that_no_machine_could_reach_is_none(vcenter: VCenter, host: str) -> None:
    vcenter.host = host
    assert settings_disk._address_towards(vcenter) == ""


def test_an_agent_that_does_not_know_this_core_believes_a_delegation(
    machine: Machine, agent: RunningAgent, tmp_path: Path
) -> None:
    owner = make_core(tmp_path, "Headquarters")
    trusted = AgentState(agent.folder / "state").ensure_trusted_core("", owner.certificate_pem)
    agent.forget_core(this_core().fingerprint)
    home = replace(own_home(machine.pk), host=HOST)
    with pytest.raises(SettingsRefused):
        homes_believed(agent, machine, settings_disk_of(machine, home))
    path, key_path = owner.credentials.certificate_path, owner.credentials.key_path
    issuer = CoreIdentity("", "", path, key_path, path.read_text(), "")
    name = delegation_name(fingerprint_of(machine.agent_certificate_pem), 1)
    pem = issue_delegation(issuer, this_core().certificate_pem, "DR site", name)
    machine.delegations.create(
        issuer_fingerprint=trusted.fingerprint, number=1, certificate_pem=pem
    )
    assert homes_believed(agent, machine, settings_disk_of(machine, home)) == (home,)
