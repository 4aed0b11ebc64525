"""The findings about importing a machine's points, by facts alone."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from protected_machines.archives.import_steps import ArchivedMachine, check_import, check_room
from recovery_store.manifest import BASE_IMAGE, Manifest
from tests.factories import NOON, make_machine

POINT = Manifest(
    point_id=str(uuid.uuid4()),
    machine_id=str(uuid.uuid4()),
    machine_name="db-01",
    taken_at=NOON,
    kind=BASE_IMAGE,
    parent_point_id=None,
    parent_digest=None,
    description={},
    consistency="file_system",
    owner_core_id=str(uuid.uuid4()),
    owner_core_name="Headquarters",
    ownership_epoch=3,
    disks=(),
)


def make_archived_machine(**changes: object) -> ArchivedMachine:
    values: dict[str, object] = {
        "machine_id": uuid.UUID(POINT.machine_id),
        "points": [POINT],
        "new_point_ids": frozenset({POINT.point_id}),
        "machine": None,
    }
    return ArchivedMachine(**{**values, **changes})  # type: ignore[arg-type]


def codes(archived: ArchivedMachine) -> list[str]:
    return [finding.code for finding in check_import(archived)]


def test_a_machine_that_is_not_known_may_come() -> None:
    assert codes(make_archived_machine()) == []


def test_a_manifest_that_cannot_be_read_is_named() -> None:
    archived = make_archived_machine(unreadable=("manifest.json of point 7 is no JSON",))
    (finding,) = check_import(archived)
    assert (finding.code, finding.severity) == ("IMPORT-DAMAGED", "warning")
    assert "point 7" in finding.text


@pytest.mark.django_db
def test_another_owner_is_said_and_changes_nothing() -> None:
    machine = make_machine(name="db-01")
    (finding,) = check_import(make_archived_machine(machine=machine))
    assert finding.code == "IMPORT-OTHER-OWNER"
    assert "Headquarters under ownership epoch 3" in finding.text
    older = replace(POINT, ownership_epoch=1, taken_at=NOON + timedelta(hours=1))
    assert codes(make_archived_machine(machine=machine, points=[POINT, older])) == []


def test_the_name_of_another_machine_is_refused() -> None:
    (finding,) = check_import(make_archived_machine(has_name_of_another=True))
    assert (finding.code, finding.severity) == ("IMPORT-NAME-TAKEN", "error")


def test_a_store_without_room_is_said() -> None:
    assert [finding.code for finding in check_room(1 << 60)] == ["IMPORT-STORE-FULL"]
    assert check_room(1) == []
