"""A disk that is not mounted is never taken for an empty store."""

import json
import shutil
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from console.readiness import ReadinessState
from protected_machines.errors import PointNotFound
from protected_machines.models import Machine, RecoveryPoint
from protected_machines.own_store import (
    StoreFacts,
    find_known_store,
    is_own_store,
    store_trouble,
)
from protected_machines.points.index import index_point, reindex_store
from protected_machines.points.proofs import get_manifest
from protected_machines.points.store import open_store
from protected_machines.points.taking import remove_recovery_point
from protected_machines.readiness import readiness
from recovery_store.archiving import consume, withdraw
from recovery_store.errors import StoreError, StoreMissing
from recovery_store.identity import ensure_store_id, find_store_id
from recovery_store.store import Store
from tests.factories import make_machine
from tests.recovery_store.disks import MIB, send_disk, tree_state

pytestmark = pytest.mark.django_db


@pytest.fixture
def store(core_home: Path) -> Iterator[Store]:
    """The store of a core that has not written to it yet: no folder, and none that it expects."""

    def forget() -> None:
        for name in ("store", "store-disk"):
            shutil.rmtree(core_home / name, ignore_errors=True)
        (core_home / "identity" / "store.json").unlink(missing_ok=True)

    forget()
    yield open_store()
    forget()


@pytest.fixture
def machine() -> Machine:
    return make_machine(name="web-01")


def add(store: Store, machine: Machine) -> RecoveryPoint:
    with store.begin_point(
        str(machine.pk), machine.name, str(uuid.uuid4()), taken_at=timezone.now()
    ) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB)
        manifest = writer.commit({"hostname": machine.name}, "crash", "", "", 1)
    return index_point(machine, manifest)


def unmount(store: Store) -> Path:
    """Leave the mount point as it is without its disk; return where the disk is now."""
    disk = store.root.with_name("store-disk")
    shutil.rmtree(disk, ignore_errors=True)
    store.root.rename(disk)
    store.root.mkdir()
    return disk


def test_a_new_store_gets_its_identity_by_the_first_write(store: Store, machine: Machine) -> None:
    assert store_trouble() == ""
    assert not store.root.exists()
    add(store, machine)
    known = find_known_store()
    assert known is not None
    assert find_store_id(store.root) == known.id
    before = (store.root / "store.json").read_bytes()
    add(store, machine)
    assert (store.root / "store.json").read_bytes() == before


def test_nothing_is_written_where_the_disk_is_missing(
    store: Store, machine: Machine, tmp_path: Path
) -> None:
    point = add(store, machine)
    arriving = store.get_point(str(machine.pk), str(point.pk))
    replica = store.get_replica(str(machine.pk), str(point.pk))
    replica.is_complete = False
    disk = unmount(store)
    try:
        for write in (
            lambda: add(store, machine),
            lambda: store.begin_replica(str(machine.pk), arriving.to_bytes()),
            lambda: replica.append("disk0.vmdk", 0, b"x"),
            lambda: store.delete_point(str(machine.pk), str(point.pk)),
            lambda: remove_recovery_point(machine.pk, point.pk),
            lambda: consume(store, disk),
            lambda: withdraw(store, str(machine.pk), [str(point.pk)]),
            lambda: get_manifest(machine.pk, point.pk),
        ):
            with pytest.raises(StoreMissing, match=r"store\.json is missing"):
                write()
        assert list(store.root.iterdir()) == []
        assert reindex_store(store).missing == []
        point.refresh_from_db()
        assert point.damage_text == ""
    finally:
        store.root.rmdir()
        disk.rename(store.root)
    add(store, machine)


def test_a_point_is_not_finished_on_another_disk_than_it_was_begun_on(
    store: Store, machine: Machine
) -> None:
    with store.begin_point(
        str(machine.pk), machine.name, str(uuid.uuid4()), taken_at=timezone.now()
    ) as writer:
        send_disk(writer, 0, {1: 2}, 4 * MIB)
        disk = unmount(store)
        with pytest.raises(StoreError):
            writer.commit({}, "crash", "", "", 1)
        assert list(store.root.iterdir()) == []
        store.root.rmdir()
        disk.rename(store.root)


def test_another_disk_is_not_this_cores_store(store: Store, machine: Machine) -> None:
    add(store, machine)
    unmount(store)
    other_id = ensure_store_id(store.root)
    with pytest.raises(StoreMissing, match=f"another store .{other_id}"):
        add(store, machine)
    assert set(tree_state(store.root)) == {"store.json"}


def test_a_store_from_before_gets_its_identity_if_the_index_knows_it(
    store: Store, machine: Machine
) -> None:
    add(store, machine)
    (store.root / "store.json").unlink()
    known = store.root.with_name("identity") / "store.json"
    known.unlink()
    disk = unmount(store)
    with pytest.raises(StoreMissing, match="holds none of the machines"):
        add(store, machine)
    assert not known.exists()
    store.root.rmdir()
    disk.rename(store.root)
    add(store, machine)
    assert json.loads(known.read_text())["id"] == find_store_id(store.root)


@pytest.mark.parametrize(
    ("facts", "is_own"),
    [
        (StoreFacts(None, None), True),
        (StoreFacts(None, "a"), True),
        (StoreFacts(None, None, frozenset("m")), False),
        (StoreFacts(None, "a", frozenset("m")), False),
        (StoreFacts(None, None, frozenset("m"), frozenset("n")), False),
        (StoreFacts(None, None, frozenset("m"), frozenset("mn")), True),
        (StoreFacts("a", None), False),
        (StoreFacts("a", None, frozenset("m"), frozenset("m")), False),
        (StoreFacts("a", "b", frozenset("m"), frozenset("m")), False),
        (StoreFacts("a", "a", frozenset("m")), True),
    ],
)
def test_which_folder_is_this_cores_store(facts: StoreFacts, is_own: bool) -> None:
    assert is_own_store(facts) is is_own


def test_pages_say_which_folder_is_missing(
    store: Store, machine: Machine, admin_client: Client
) -> None:
    add(store, machine).mark_proven()
    pages = ("/", machine.get_absolute_url(), "/jobs/")
    for page in pages:
        assert "STORE-MISSING" not in admin_client.get(page).content.decode()
    unmount(store)
    for page in pages:
        shown = admin_client.get(page).content.decode()
        assert "STORE-MISSING" in shown
        assert str(store.root / "store.json") in shown
    (entry,) = readiness(timezone.now() + timedelta(minutes=1))
    assert entry.state == ReadinessState.NOT_READY
    # Once on the page is enough to say where it is expected.
    assert entry.reasons[0] == "The store with its recovery points cannot be used."


def test_a_lost_disk_is_replaced_by_a_person_only(store: Store, machine: Machine) -> None:
    lost = add(store, machine)
    unmount(store)
    with pytest.raises(CommandError, match="--empty"):
        call_command("adopt_store")
    call_command("adopt_store", "--empty")
    assert store_trouble() == ""
    with pytest.raises(PointNotFound):
        get_manifest(machine.pk, lost.pk)
    add(store, machine)
