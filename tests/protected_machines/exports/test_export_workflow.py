"""The export workflow: the generic five with a real store and a real vcsim, and its faults."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from console.jobs.acts import start_job
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import log_of, run_until_done
from lab.vcsim.process import Vcsim
from protected_machines.choices import PointKind, PointState
from protected_machines.exports.check import space_of
from protected_machines.exports.options import VmOptions
from protected_machines.exports.places import places_in
from protected_machines.exports.strays import find_stray_vms, stray_notice
from protected_machines.exports.upload_line import SharedUploadLine
from protected_machines.exports.vcenters import connect
from protected_machines.exports.workflow import ExportParams, export
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.points.proofs import get_manifest
from protected_machines.points.taking import take_recovery_point
from recovery_store.store import Store
from recovery_store.vmdk.layout import GRAIN_BYTES
from tests.console.jobs.generic_five import GenericFive, WorkflowCase
from tests.places.agent import MIB, RunningAgent, overwrite
from tests.reading import as_read
from tests.recovery_store.disks import judges_say_same
from vsphere.api import vim

pytestmark = pytest.mark.django_db


@pytest.fixture
def point(machine: Machine, agent: RunningAgent) -> RecoveryPoint:
    """An incremental on a base image."""
    take_recovery_point(machine, PointKind.BASE_IMAGE, uuid.uuid4())
    overwrite(agent.disks["boot"], 200_000, b"changed since")
    return take_recovery_point(machine, PointKind.INCREMENTAL, uuid.uuid4())


@pytest.fixture
def machines_there(vcenter: VCenter) -> Iterator[Callable[[], set[str]]]:
    """The ids of the simulator's VMs now; those that a test left are removed after it."""

    def look() -> set[str]:
        with connect(vcenter) as session:
            inventory = session.inventory(with_virtual_machines=True)
        return {vm.moid for vm in inventory.virtual_machines}

    before = look()
    yield look
    with connect(vcenter) as session:
        for moid in look() - before:
            vm = session.get_vm(moid)
            vm.power_off()
            vm.destroy(vm.marker or "")


def start(point: RecoveryPoint, options: VmOptions) -> Job:
    machine = point.machine
    return start_job("export", machine.pk, machine.name, ExportParams(point.pk, options))


@pytest.fixture
def case(
    point: RecoveryPoint,
    options: VmOptions,
    vcsim: Vcsim,
    machines_there: Callable[[], set[str]],
    agent: RunningAgent,
) -> WorkflowCase:
    before = machines_there()

    def check_success(job: Job) -> None:
        output = job.steps.get(name="import_vm").output
        assert machines_there() - before == {output["vm_moid"]}
        for number, key in enumerate(("boot", "data")):
            assert_same(vcsim.disk_path(output["vm_moid"], number), agent.disks[key])

    return WorkflowCase(
        start=lambda: start(point, options), world=machines_there, check_success=check_success
    )


def assert_same(vmdk: Path, image: Path) -> None:
    """Have others compare an uploaded disk with the machine's own."""
    assert judges_say_same(vmdk, image)


class TestExport(GenericFive):
    workflow = export
    copying_steps = ("prove_chain", "import_vm")


def test_the_vm_has_the_hardware_that_was_chosen(
    point: RecoveryPoint,
    options: VmOptions,
    vcenter: VCenter,
    machines_there: Callable[[], set[str]],
) -> None:
    job = run_until_done(start(point, options))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    output = job.steps.get(name="import_vm").output
    assert output["vm_name"] == options.vm_name
    with connect(vcenter) as session:
        vm = session.get_vm(output["vm_moid"])
        hardware = vm.hardware()
    assert not vm.is_on
    assert (hardware.cpus, hardware.memory_bytes) == (options.cpus, options.memory_bytes)
    assert [disk.capacity_bytes for disk in hardware.disks] == [4 * MIB, 2 * MIB]
    assert RecoveryPoint.objects.get(pk=point.pk).state == PointState.PROVEN


def test_the_vm_goes_to_the_folder_that_was_chosen(
    point: RecoveryPoint, options: VmOptions, vcenter: VCenter
) -> None:
    with connect(vcenter) as session:
        root = session.inventory().datacenters[0].folder
        folder = vim.Folder(root, session.calls.stub).CreateFolder(name=uuid.uuid4().hex)
        job = run_until_done(start(point, replace(options, folder=folder._moId)))
        assert job.state == JobState.SUCCEEDED, log_of(job)
        inventory = session.inventory(with_virtual_machines=True)
        places = places_in(inventory, options.datacenter)
        (text,) = (text for moid, text in places.folders if moid == folder._moId)
        path = f"{inventory.datacenters[0].path}/{text}/{options.vm_name}"
        assert path in [vm.path for vm in inventory.virtual_machines]


def test_the_space_of_a_vm_is_what_its_disks_hold_and_can_hold(
    point: RecoveryPoint, agent: RunningAgent, store: Store
) -> None:
    space = space_of(get_manifest(point.machine_id, point.pk), 512 * MIB)
    assert (space.capacity_bytes, space.swap_bytes) == (6 * MIB, 512 * MIB)
    assert 0 < space.read_data_bytes() < 6 * MIB
    holes = sum(path.read_bytes().count(bytes(GRAIN_BYTES)) for path in agent.disks.values())
    assert space.read_data_bytes() <= 6 * MIB - holes * GRAIN_BYTES


def test_the_space_of_a_damaged_chain_refuses_nothing(point: RecoveryPoint, store: Store) -> None:
    manifest = get_manifest(point.machine_id, point.pk)
    (store.get_folder(str(point.machine_id), str(point.parent_id)) / "disk0.vmdk").unlink()
    assert space_of(manifest, 0).read_data_bytes() == 0


def test_a_damaged_chain_is_refused_and_says_which_points_are_good(
    point: RecoveryPoint,
    options: VmOptions,
    store: Store,
    machines_there: Callable[[], set[str]],
) -> None:
    before = machines_there()
    folder = store.get_folder(str(point.machine_id), str(point.pk))
    disk = folder / "disk0.vmdk"
    disk.chmod(0o600)
    overwrite(disk, disk.stat().st_size // 2, b"flipped")
    job = run_until_done(start(point, options))
    assert job.state == JobState.FAILED
    assert job.error_code == "STORE-CHAIN-DAMAGED", log_of(job)
    assert str(point.parent_id) in job.error_text
    assert machines_there() == before
    assert RecoveryPoint.objects.get(pk=point.pk).state == PointState.DAMAGED


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ({"cut_upload_after_bytes": 100_000}, "VSPHERE-"),
        ({"lease_lost_after_bytes": 100_000}, "VSPHERE-"),
    ],
)
def test_a_broken_upload_leaves_no_vm(
    point: RecoveryPoint,
    options: VmOptions,
    vcsim: Vcsim,
    machines_there: Callable[[], set[str]],
    faults: dict[str, Any],
    code: str,
) -> None:
    before = machines_there()
    vcsim.faults(**faults)
    try:
        job = run_until_done(start(point, options))
    finally:
        vcsim.no_faults()
    assert job.state == JobState.FAILED
    assert job.error_code.startswith(code), log_of(job)
    assert machines_there() == before


def test_a_name_that_is_taken_is_said_and_nothing_is_made(
    point: RecoveryPoint, options: VmOptions, machines_there: Callable[[], set[str]]
) -> None:
    run_until_done(start(point, options))
    before = machines_there()
    job = run_until_done(start(point, options))
    assert job.error_code == "VSPHERE-NAME-TAKEN", log_of(job)
    assert options.vm_name in job.error_text
    assert machines_there() == before


def test_a_changed_certificate_is_waited_out_until_someone_accepts_it(
    point: RecoveryPoint, options: VmOptions, vcenter: VCenter
) -> None:
    VCenter.objects.update(thumbprint="ab" * 32)
    job = start(point, options)
    with pytest.raises(AssertionError, match="did not finish"):
        run_until_done(job, limit_seconds=1)
    step = job.steps.get(name="import_vm")
    assert step.state == "waiting"
    assert "which is not the accepted one" in step.note
    VCenter.objects.update(thumbprint=vcenter.thumbprint)
    assert run_until_done(job).state == JobState.SUCCEEDED


def test_a_vcenter_that_was_removed_is_named(
    point: RecoveryPoint, options: VmOptions, vcenter: VCenter
) -> None:
    vcenter.delete()
    job = run_until_done(start(point, options))
    assert job.error_code == "MACHINE-VCENTER-MISSING", log_of(job)


def test_another_machines_point_cannot_be_exported(
    point: RecoveryPoint, options: VmOptions
) -> None:
    job = start_job("export", uuid.uuid4(), "other", ExportParams(point.pk, options))
    assert run_until_done(job).error_code == "MACHINE-POINT-NOT-FOUND"


def test_a_vm_of_a_job_that_was_undone_is_named_on_every_page(
    point: RecoveryPoint,
    options: VmOptions,
    vcenter: VCenter,
    store: Store,
    machines_there: Callable[[], set[str]],
    admin_client: Client,
) -> None:
    job = run_until_done(start(point, options))
    assert job.state == JobState.SUCCEEDED, log_of(job)
    find_stray_vms()
    assert stray_notice() is None
    # As if a worker had been paused while another one took over the job and undid it.
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    find_stray_vms()
    for page in ("/", "/jobs/"):
        shown = admin_client.get(page).content.decode()
        assert "EXPORT-VM-LEFT-BEHIND" in shown
        assert options.vm_name in shown
        assert str(job.pk) in shown
    marker = job.steps.get(name="reserve_vm").output["marker"]
    Machine.objects.filter(pk=point.machine_id).update(vm_marker=marker)
    find_stray_vms()
    assert stray_notice() is None
    Machine.objects.filter(pk=point.machine_id).update(vm_marker="")
    with connect(vcenter) as session:
        vm = session.find_vm(marker)
        assert vm is not None
        vm.destroy(marker)
    find_stray_vms()
    assert stray_notice() is None


def test_an_export_waits_in_line_at_its_host_and_says_so(
    point: RecoveryPoint,
    options: VmOptions,
    vcsim: Vcsim,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = ["one", "two"]
    ahead = SharedUploadLine.ahead

    def ahead_until_one_is_done(line: SharedUploadLine, host: str, upload: str) -> int:
        place = ahead(line, host, upload)
        # Another upload ends as soon as this one has been told to wait.
        if place == 2 and upload not in others:
            line.leave(host, others[0])
        return place

    with closing(SharedUploadLine()) as line:
        for name in others:
            line.ahead(vcsim.host, name)
        monkeypatch.setattr(SharedUploadLine, "ahead", ahead_until_one_is_done)
        job = run_until_done(start(point, options))
        for name in others:
            line.leave(vcsim.host, name)
    assert job.state == JobState.SUCCEEDED, log_of(job)
    notes = [event.payload["text"] for event in job.events.filter(type="note")]
    assert notes[:2] == [
        f"Waiting in line: {vcsim.host} is receiving two other disks.",
        "Sending the disks.",
    ]


def test_what_a_hanging_server_keeps_of_a_cancelled_import_is_removed_later(
    point: RecoveryPoint,
    options: VmOptions,
    vcsim: Vcsim,
    machines_there: Callable[[], set[str]],
    admin_client: Client,
) -> None:
    before = machines_there()
    vcsim.faults(fail_call="Destroy_Task", wrong_digest=True)
    refuses_abort = {"call": "HttpNfcLeaseAbort", "answer": "no_permission"}
    vcsim.faults(answers=[refuses_abort])
    try:
        job = run_until_done(start(point, options))
        assert job.state == JobState.FAILED, log_of(job)
        assert "could not be removed yet" in job.error_text
        find_stray_vms()
        shown = as_read(admin_client.get("/"))
        assert "EXPORT-VM-LEFT-BEHIND" in shown
        assert "Understudy tries again every five minutes" in shown
        assert len(machines_there()) == len(before) + 1
    finally:
        vcsim.no_faults()
    vcsim.faults(expire_leases=True)
    find_stray_vms()
    assert stray_notice() is None
    assert machines_there() == before


def test_an_undone_job_still_says_which_marker_its_vm_would_have(
    point: RecoveryPoint, options: VmOptions, store: Store, vcenter: VCenter
) -> None:
    folder = store.get_folder(str(point.machine_id), str(point.pk))
    (folder / "disk0.vmdk").unlink()
    job = run_until_done(start(point, options))
    assert job.state == JobState.FAILED
    assert job.steps.get(name="reserve_vm").output["marker"].startswith("understudy:")
