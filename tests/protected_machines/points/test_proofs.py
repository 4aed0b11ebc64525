"""What a proof that found damage says of the machine's other points, and who may be a parent."""

import uuid

import pytest
from blake3 import blake3
from django.utils import timezone

from protected_machines.choices import PointKind, PointState
from protected_machines.errors import PointNotFound
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.points.index import index_point
from protected_machines.points.proofs import get_manifest, prove_whole_chain, record_damage
from protected_machines.points.schedule import prove_points
from protected_machines.points.taking import choose_parent, remove_recovery_point
from recovery_store.errors import ChainDamaged
from recovery_store.importing import new_cid
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from recovery_store.vmdk.imaging import grain_digest
from recovery_store.vmdk.writer import StreamWriter
from tests.factories import make_machine, make_recovery_point
from tests.recovery_store.disks import MIB, compressed, content, disk_path, flip_byte, send_disk

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_machine()


def add(store: Store, machine: Machine, parent: RecoveryPoint | None = None) -> RecoveryPoint:
    """Add a small point to the store and to the index."""
    with store.begin_point(
        str(machine.pk),
        machine.name,
        str(uuid.uuid4()),
        str(parent.pk) if parent else None,
        taken_at=timezone.now(),
    ) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB, has_parent=parent is not None)
        manifest = writer.commit({"hostname": machine.name}, "crash", "", "", 1)
    return index_point(machine, manifest)


def manifest_of(store: Store, point: RecoveryPoint) -> Manifest:
    return store.get_point(str(point.machine_id), str(point.pk))


def states(machine: Machine) -> list[str]:
    return list(machine.points.order_by("taken_at").values_list("state", flat=True))


def test_damage_marks_the_point_and_those_on_it_and_leaves_the_good(
    store: Store, machine: Machine
) -> None:
    base = add(store, machine)
    damaged = add(store, machine, base)
    add(store, machine, damaged)
    add(store, machine, base)
    add(store, make_machine(name="another"))
    flip_byte(disk_path(store, manifest_of(store, damaged)), 66_000)
    with pytest.raises(ChainDamaged):
        prove_whole_chain(machine.pk, damaged.pk)
    assert states(machine) == ["unproven", "damaged", "damaged", "unproven"]
    assert RecoveryPoint.objects.filter(state=PointState.DAMAGED).count() == 2
    texts = machine.points.filter(state=PointState.DAMAGED).order_by("taken_at")
    assert [
        text.startswith("It builds on") for text in texts.values_list("damage_text", flat=True)
    ] == [
        False,
        True,
    ]


def test_damage_says_nothing_of_points_that_came_since_the_proof_began(machine: Machine) -> None:
    damaged, older = make_recovery_point(machine), make_recovery_point(machine)
    known_ids = {damaged.pk, older.pk}
    newer = make_recovery_point(machine)
    record_damage(machine.pk, damaged.pk, ChainDamaged("a grain is damaged"), known_ids)
    assert states(machine) == ["damaged", "damaged", "unproven"]
    for point in (older, newer):
        point.refresh_from_db()
    assert "a grain is damaged" in older.damage_text
    assert newer.damage_text == ""


def test_what_was_damaged_before_keeps_its_own_reason(machine: Machine) -> None:
    known = make_recovery_point(machine, state=PointState.DAMAGED)
    damaged = make_recovery_point(machine)
    record_damage(machine.pk, damaged.pk, ChainDamaged("another"), {known.pk, damaged.pk})
    before = known.damage_text
    known.refresh_from_db()
    assert known.damage_text == before


@pytest.mark.parametrize(
    "flaw", [{"is_carried_on": False}, {"state": PointState.DAMAGED, "damage_text": "x"}], ids=str
)
def test_a_point_that_was_not_carried_on_or_is_damaged_is_no_parent(
    store: Store, machine: Machine, flaw: dict[str, object]
) -> None:
    base = add(store, machine)
    newest = add(store, machine, base)
    assert choose_parent(store, machine, PointKind.INCREMENTAL)[1] == str(newest.pk)
    RecoveryPoint.objects.filter(pk=newest.pk).update(**flaw)
    choice, parent_id = choose_parent(store, machine, PointKind.INCREMENTAL)
    assert (choice.kind, parent_id) == (PointKind.INCREMENTAL, str(base.pk))
    RecoveryPoint.objects.filter(pk=base.pk).update(**flaw)
    choice, parent_id = choose_parent(store, machine, PointKind.INCREMENTAL)
    assert (choice.kind, parent_id) == (PointKind.BASE_IMAGE, None)


def test_a_point_without_a_whole_chain_is_no_parent(store: Store, machine: Machine) -> None:
    base = add(store, machine)
    newest = add(store, machine, base)
    disk_path(store, manifest_of(store, newest)).unlink()
    assert choose_parent(store, machine, PointKind.INCREMENTAL)[1] == str(base.pk)
    disk_path(store, manifest_of(store, base)).unlink()
    choice, parent_id = choose_parent(store, machine, PointKind.INCREMENTAL)
    assert (choice.kind, parent_id) == (PointKind.BASE_IMAGE, None)
    assert "complete chain" in choice.reason


def test_a_point_is_removed_and_found_by_its_own_machine_only(
    store: Store, machine: Machine
) -> None:
    point = add(store, machine)
    other = make_machine(name="another")
    assert get_manifest(machine.pk, point.pk).point_id == str(point.pk)
    with pytest.raises(PointNotFound):
        get_manifest(other.pk, point.pk)
    remove_recovery_point(other.pk, point.pk)
    assert get_manifest(machine.pk, point.pk).point_id == str(point.pk)
    assert RecoveryPoint.objects.filter(pk=point.pk).exists()
    for _ in range(2):
        remove_recovery_point(machine.pk, point.pk)
        assert store.points(str(machine.pk)) == []
        assert not RecoveryPoint.objects.filter(pk=point.pk).exists()


def add_spoilt(store: Store, machine: Machine) -> RecoveryPoint:
    """Add a point with a grain that was damaged before its file was digested."""
    middle = len(compressed(7)) // 2
    spoilt = bytearray(compressed(7))
    spoilt[middle] ^= 0x10
    cid, parts = new_cid(), list[bytes]()
    stream = StreamWriter(parts.append, 4 * MIB, cid)
    stream.grain(3, bytes(spoilt))
    stream.finish()
    file = b"".join(parts)
    with store.begin_point(
        str(machine.pk), machine.name, str(uuid.uuid4()), taken_at=timezone.now()
    ) as writer:
        writer.begin_disk(0, "serial-0", 4 * MIB, cid, has_parent=False)
        writer.write(0, file)
        writer.put_digests(0, 3, grain_digest(content(7)))
        writer.finish_disk(0, len(file), blake3(file).hexdigest())
        manifest = writer.commit({"hostname": machine.name}, "crash", "", "", 1)
    return index_point(machine, manifest)


def test_a_point_is_not_proven_before_its_grains_were_inflated(
    store: Store, machine: Machine
) -> None:
    point = add_spoilt(store, machine)
    assert prove_points() == []
    point.refresh_from_db()
    assert (point.state, point.proven_at) == (PointState.DAMAGED, None)
    assert "cannot be restored: grain 3" in point.damage_text


def test_grains_are_inflated_once(store: Store, machine: Machine) -> None:
    point = add_spoilt(store, machine)
    point.mark_proven()
    prove_whole_chain(machine.pk, point.pk)
    point.mark_damaged("its manifest differs")
    with pytest.raises(ChainDamaged, match="cannot be restored"):
        prove_whole_chain(machine.pk, point.pk)
