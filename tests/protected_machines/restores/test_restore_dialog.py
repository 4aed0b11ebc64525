"""Restore as an action of a recovery point: pair, look at the disks, start."""

import uuid
from dataclasses import replace

import pytest
from django.test import Client
from django.urls import reverse

from agent.client import MachineDescription
from console.jobs.models import Job
from console.jobs.workflow import StepFailed
from protected_machines.models import Machine, RecoveryPoint, RestoreTarget
from protected_machines.points.proofs import get_manifest
from protected_machines.points.taking import take_recovery_point
from protected_machines.restores.mapping import map_disks
from protected_machines.restores.rescue_machines import get_target
from tests.factories import make_machine, make_recovery_point
from tests.places.agent import CODE, RESCUE_CODE, RunningAgent, overwrite
from tests.reading import as_read

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def point(machine: Machine) -> RecoveryPoint:
    return take_recovery_point(machine, "base_image", uuid.uuid4())


def url_of(point: RecoveryPoint) -> str:
    return reverse("protected_machines:restore-start", args=[point.machine_id, point.pk])


def address(agent: RunningAgent, code: str = RESCUE_CODE) -> dict[str, str]:
    return {"host": "127.0.0.1", "port": str(agent.port), "code": code}


def test_it_is_a_page_and_a_fragment(admin_client: Client) -> None:
    point = make_recovery_point()
    assert "<html" in admin_client.get(url_of(point)).content.decode()
    fragment = admin_client.get(url_of(point), headers=HTMX).content.decode()
    assert 'id="restore"' in fragment
    assert "<html" not in fragment
    page = admin_client.get(point.machine.get_absolute_url()).content.decode()
    assert url_of(point) in page


def test_nobody_without_a_session_and_no_other_machine_s_point(
    client: Client, admin_client: Client
) -> None:
    point, other = make_recovery_point(), make_machine()
    assert client.get(url_of(point)).status_code == 302
    foreign = reverse("protected_machines:restore-start", args=[other.pk, point.pk])
    assert admin_client.get(foreign).status_code == 404
    assert admin_client.delete(url_of(point)).status_code == 405


def test_the_disks_are_shown_before_anything_starts(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    overwrite(rescue.disks["second"], 0, b"something")
    page = as_read(admin_client.post(url_of(point), address(rescue), headers=HTMX))
    assert "which is blank" in page
    assert "which holds unknown data: overwritten" in page
    assert "RESTORE-NOT-BLANK" in page
    assert 'class="button button-danger" type="submit"> Restore' in page
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("wanted", "there", "codes"),
    [
        ("bios", "bios", []),
        ("efi", "efi", ["RESTORE-EFI-BOOT-ENTRIES"]),
        ("bios", "efi", ["RESTORE-OTHER-FIRMWARE"]),
        ("efi", "bios", ["RESTORE-OTHER-FIRMWARE", "RESTORE-EFI-BOOT-ENTRIES"]),
        ("efi", None, ["RESTORE-EFI-BOOT-ENTRIES"]),
        (None, "efi", []),
    ],
)
def test_another_way_to_start_is_a_warning(
    point: RecoveryPoint, wanted: str | None, there: str | None, codes: list[str]
) -> None:
    manifest = get_manifest(point.machine_id, point.pk)
    description = {**manifest.description, "firmware": wanted}
    described = {
        "mode": "restore",
        "firmware": there,
        "disks": [
            {"number": disk.number, "key": disk.key, "capacity_bytes": disk.capacity_bytes}
            for disk in manifest.disks
        ],
    }
    target = MachineDescription.from_json(described)
    mapping = map_disks(replace(manifest, description=description), target)
    assert [finding.code for finding in mapping.findings] == codes
    assert not mapping.has_errors


@pytest.mark.parametrize(
    ("state", "codes"),
    [
        ("proven", []),
        ("unproven", ["RESTORE-POINT-UNPROVEN"]),
        ("damaged", ["RESTORE-POINT-DAMAGED"]),
    ],
)
def test_a_damaged_point_is_not_restored_and_an_unproven_one_is_told(
    point: RecoveryPoint, state: str, codes: list[str]
) -> None:
    manifest = get_manifest(point.machine_id, point.pk)
    disks = [
        {"number": disk.number, "key": disk.key, "capacity_bytes": disk.capacity_bytes}
        for disk in manifest.disks
    ]
    target = MachineDescription.from_json({"mode": "restore", "disks": disks})
    point.state, point.damage_text = state, "a bad disk"
    mapping = map_disks(manifest, target, point)
    assert [finding.code for finding in mapping.findings] == codes
    assert mapping.has_errors == (state == "damaged")


def test_a_rescue_machine_that_is_not_known_is_named() -> None:
    unknown = uuid.uuid4()
    with pytest.raises(StepFailed, match=str(unknown)) as failed:
        get_target(unknown)
    assert failed.value.code == "RESTORE-TARGET-MISSING"


def test_it_starts_once_however_often_it_is_sent(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    admin_client.post(url_of(point), address(rescue))
    target = RestoreTarget.objects.get()
    values = {
        "target_id": str(target.pk),
        "request_id": str(uuid.uuid4()),
        "is_protected_there": "on",
    }
    for _ in range(2):
        answer = admin_client.post(url_of(point), values)
        assert answer.status_code == 303
    job = Job.objects.get(kind="restore")
    assert job.params == {
        "point_id": str(point.pk),
        "target_id": str(target.pk),
        "is_protected_there": True,
    }


def test_a_wrong_code_is_said_at_its_field(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    answer = admin_client.post(url_of(point), address(rescue, "WRONG-CODE-0000"), headers=HTMX)
    assert answer.status_code == 422
    assert "code" in answer.content.decode()
    assert not RestoreTarget.objects.exists()


def test_a_code_used_up_by_this_core_is_asked_for_again(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    assert admin_client.post(url_of(point), address(rescue)).status_code == 200
    assert admin_client.post(url_of(point), address(rescue)).status_code == 200
    wrong = admin_client.post(url_of(point), address(rescue, "WRONG-CODE-0000"))
    assert wrong.status_code == 422
    assert RestoreTarget.objects.count() == 1


def test_the_code_that_its_screen_shows_since_then_is_as_good(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    assert admin_client.post(url_of(point), address(rescue)).status_code == 200
    paired = RestoreTarget.objects.get()
    again = admin_client.post(url_of(point), address(rescue, rescue.new_code()))
    assert again.status_code == 200
    assert RestoreTarget.objects.get().pk == paired.pk


def test_a_machine_that_runs_its_own_system_is_refused(
    admin_client: Client, point: RecoveryPoint, agent: RunningAgent
) -> None:
    other = RunningAgent(agent.folder.parent, code=CODE)
    other.add_disk("boot")
    other.start()
    try:
        answer = admin_client.post(url_of(point), address(other, CODE))
    finally:
        other.kill()
    assert answer.status_code == 422
    assert "runs its own operating system, not the rescue medium" in answer.content.decode()


def test_a_replica_is_restored_but_not_protected_from_here(
    admin_client: Client, point: RecoveryPoint, rescue: RunningAgent
) -> None:
    other_core = uuid.uuid4()
    Machine.objects.update(
        kind="replicated",
        owner_core_id=other_core,
        owner_core_name="Headquarters",
        source_core_id=other_core,
    )
    page = admin_client.post(url_of(point), address(rescue)).content.decode()
    assert "Headquarters owns db-01" in page
    values = {
        "target_id": str(RestoreTarget.objects.get().pk),
        "request_id": str(uuid.uuid4()),
        "is_protected_there": "on",
    }
    assert admin_client.post(url_of(point), values).status_code == 422
    values.pop("is_protected_there")
    assert admin_client.post(url_of(point), values).status_code == 303


def test_a_branch_is_shown_on_the_machine_s_page(admin_client: Client) -> None:
    point = make_recovery_point()
    make_recovery_point(point.machine, is_carried_on=False)
    page = admin_client.get(point.machine.get_absolute_url()).content.decode()
    assert "Some points are not on the main line" in page
    assert "continued without 1 recovery point in this list. It can still be restored" in page
    assert page.count("Not on the main line") == 1


def test_who_owns_a_machine_since_when_is_on_its_row_and_page(admin_client: Client) -> None:
    make_machine(owner_core_id=uuid.uuid4(), owner_core_name="DR site", ownership_epoch=2)
    rows = as_read(admin_client.get(reverse("protected_machines:machines")))
    assert "DR site" in rows
    assert "epoch 2" in rows
    page = admin_client.get(Machine.objects.get().get_absolute_url()).content.decode()
    assert "DR site has owned this machine since 2026-03-01 12:00 UTC (ownership epoch 2)" in page
