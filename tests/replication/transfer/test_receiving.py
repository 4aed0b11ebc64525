"""The receiving side keeps points of the owner only, also when the owner changes meanwhile."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from console.identity import this_core
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.errors import OffsetMismatch, OwnedElsewhere, PeerFaulty
from replication.models import Pairing, ReplicatedMachine
from replication.transfer import receiving
from tests.factories import NOON, make_recovery_point
from tests.recovery_store.disks import send_disk
from tests.replication.rows import hand_over


@pytest.fixture
def arriving(
    incoming: Pairing,
    machine: Machine,
    take_point: Callable[[], RecoveryPoint],
    store: Store,
    tmp_path: Path,
) -> uuid.UUID:
    """An incremental whose bytes have all arrived, and which is not committed yet."""
    take_point()
    point = take_point()
    hand_over(machine, incoming)
    manifest = store.get_point(str(machine.pk), str(point.pk))
    files = {
        disk.file: store.read_file(str(machine.pk), str(point.pk), disk.file, 0, disk.file_bytes)
        for disk in manifest.disks
    }
    store.delete_point(str(machine.pk), str(point.pk))
    point_id = point.pk
    point.delete()
    assert receiving.begin_replica(incoming, machine, manifest.to_bytes()) == dict.fromkeys(
        files, 0
    )
    for name, content in files.items():
        assert receiving.append_slice(machine, point_id, name, 0, content) == len(content)
    return point_id


def test_a_whole_point_is_kept_indexed_and_proven_as_its_parent_is(
    arriving: uuid.UUID, incoming: Pairing, machine: Machine, store: Store
) -> None:
    machine.points.get().mark_proven()
    point = receiving.commit_replica(incoming, machine, arriving)
    assert point.state == "proven"
    assert receiving.commit_replica(incoming, machine, arriving) == point
    assert len(store.points(str(machine.pk))) == 2


def test_a_point_on_an_unproven_parent_is_not_called_proven(
    arriving: uuid.UUID, incoming: Pairing, machine: Machine
) -> None:
    assert receiving.commit_replica(incoming, machine, arriving).state == "unproven"


def test_a_failover_that_began_meanwhile_refuses_the_point_and_keeps_nothing_of_it(
    arriving: uuid.UUID, incoming: Pairing, machine: Machine, store: Store
) -> None:
    Machine.objects.filter(pk=machine.pk).update(
        owner_core_id=this_core().id, ownership_epoch=2, kind="pending_failover"
    )
    with pytest.raises(OwnedElsewhere):
        receiving.commit_replica(incoming, machine, arriving)
    assert store.find_point(str(machine.pk), str(arriving)) is None
    assert not RecoveryPoint.objects.filter(pk=arriving).exists()


def test_a_slice_at_another_place_is_told_the_right_one(
    arriving: uuid.UUID, machine: Machine
) -> None:
    with pytest.raises(OffsetMismatch) as refused:
        receiving.append_slice(machine, arriving, "disk0.vmdk", 7, b"x")
    assert refused.value.offset_bytes > 7


@pytest.mark.usefixtures("arriving")
def test_a_point_that_never_began_is_refused(incoming: Pairing, machine: Machine) -> None:
    with pytest.raises(PeerFaulty, match="Send its manifest first"):
        receiving.append_slice(machine, uuid.uuid4(), "disk0.vmdk", 0, b"x")
    with pytest.raises(PeerFaulty, match="Send its manifest first"):
        receiving.commit_replica(incoming, machine, uuid.uuid4())


def test_a_point_with_the_id_of_another_machine_s_point_is_refused_before_a_byte_of_it(
    replica: ReplicatedMachine, incoming: Pairing, store: Store
) -> None:
    machine = replica.machine
    taken = machine.points.order_by("-taken_at").first()
    assert taken is not None
    manifest = store.get_point(str(machine.pk), str(taken.pk)).to_bytes()
    taken_id = taken.pk
    store.delete_point(str(machine.pk), str(taken_id))
    taken.delete()
    other = make_recovery_point(id=taken_id)
    with pytest.raises(PeerFaulty, match="of another machine"):
        receiving.begin_replica(incoming, machine, manifest)
    other.refresh_from_db()
    assert other.state == "unproven"


def test_a_point_whose_owner_has_no_id_is_refused_before_a_byte_of_it(
    replica: ReplicatedMachine, incoming: Pairing, store: Store
) -> None:
    machine = replica.machine
    with store.begin_point(
        str(machine.pk), machine.name, str(uuid.uuid4()), taken_at=NOON
    ) as writer:
        send_disk(writer, 0, {0: 1}, 65536)
        manifest = writer.commit({}, "crash", "nobody", "Headquarters", 1)
    store.delete_point(str(machine.pk), manifest.point_id)
    with pytest.raises(PeerFaulty, match="no valid id"):
        receiving.begin_replica(incoming, machine, manifest.to_bytes())
