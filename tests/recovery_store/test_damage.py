"""Damage anywhere in a chain is found, named, and costs only the points that need the damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recovery_store.errors import ChainBroken, ChainDamaged, ChainFault
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    begin,
    disk_path,
    flip_byte,
    make_stream,
    send_disk,
    tree_state,
)

Harm = Callable[[Path], object]


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 512)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(512))


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS: dict[str, Harm] = {
    "first byte": lambda path: flip_byte(path, 0),
    "inside a grain": lambda path: flip_byte(path, 128 * 512 + 200),
    "last byte": lambda path: flip_byte(path, path.stat().st_size - 1),
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "longer": lengthen,
    "missing": lambda path: path.unlink(),
    "a folder": replace_with_folder,
}


@pytest.fixture
def chain(store: Store) -> list[Manifest]:
    """A chain of four points."""
    return add_chain(store, {0: 1, 3: 2}, {1: 3}, {2: 4}, {3: 5})


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("link", range(4))
def test_a_damaged_file_spoils_its_point_and_those_above(
    store: Store, chain: list[Manifest], tmp_path: Path, link: int, harm: Harm
) -> None:
    harm(disk_path(store, chain[link]))
    good = [point.point_id for point in chain[:link]]
    before = tree_state(store.root)

    report = store.check()
    assert not report.is_good
    assert [point.point_id for point in report.good_points] == good
    first = report.findings[0]
    assert (first.point_id, first.file) == (chain[link].point_id, "disk0.vmdk")
    assert first.code in ("missing", "damaged")
    assert str(disk_path(store, chain[link])) in first.text
    assert {finding.point_id for finding in report.findings[1:]} == {
        point.point_id for point in chain[link + 1 :]
    }

    for point in chain[link:]:
        with pytest.raises(ChainFault) as refusal:
            store.export(MACHINE_ID, point.point_id, 0, tmp_path / "out.vmdk")
        assert list(refusal.value.good_point_ids) == good
        assert str(disk_path(store, chain[link])) in str(refusal.value)
    for point in chain[:link]:
        store.prove(MACHINE_ID, point.point_id)
        store.export(MACHINE_ID, point.point_id, 0, tmp_path / "good.vmdk")
    assert not list(tmp_path.glob("out.vmdk*"))
    assert tree_state(store.root) == before


@pytest.mark.parametrize("link", range(4))
@pytest.mark.parametrize("harm", ["flipped", "cut", "missing"])
def test_a_damaged_manifest_spoils_its_point_and_those_above(
    store: Store, chain: list[Manifest], tmp_path: Path, link: int, harm: str
) -> None:
    path = disk_path(store, chain[link]).with_name("manifest.json")
    if harm == "flipped":
        flip_byte(path, 500)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    report = store.check()
    assert [point.point_id for point in report.good_points] == [
        point.point_id for point in chain[:link]
    ]
    assert str(path) in report.findings[0].text
    for point in chain[link + 1 :]:
        with pytest.raises(ChainBroken, match=r"manifest\.json"):
            store.prove(MACHINE_ID, point.point_id)


def test_a_missing_point_is_named_once_and_by_who_needs_it(
    store: Store, chain: list[Manifest]
) -> None:
    shutil.rmtree(store.get_folder(MACHINE_ID, chain[1].point_id))
    report = store.check()
    assert [point.point_id for point in report.good_points] == [chain[0].point_id]
    missing = [finding for finding in report.findings if finding.code == "missing"]
    assert [finding.point_id for finding in missing] == [chain[1].point_id]
    assert chain[2].point_id in missing[0].text
    with pytest.raises(ChainBroken, match=f"{chain[1].point_id}.* is not in the store"):
        store.chain(MACHINE_ID, chain[3].point_id)


def test_damage_to_one_machine_leaves_others_alone(store: Store, chain: list[Manifest]) -> None:
    other = "22222222-2222-4333-8444-555555555555"
    with store.begin_point(other, "db-01", other, taken_at=chain[0].taken_at) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        writer.commit({}, "crash", "", "", 0)
    flip_byte(disk_path(store, chain[0]), 70_000)
    assert [point.machine_id for point in store.check().good_points] == [other]
    with pytest.raises(ChainDamaged) as refusal:
        store.prove(MACHINE_ID, chain[0].point_id)
    assert refusal.value.good_point_ids == ()


def test_damage_to_a_disk_that_is_not_exported_counts_too(store: Store, tmp_path: Path) -> None:
    with begin(store) as writer:
        send_disk(writer, 0, {0: 1}, 4 * MIB)
        send_disk(writer, 1, {0: 2}, 4 * MIB)
        point = writer.commit({}, "crash", "", "", 0)
    flip_byte(disk_path(store, point, 1), 70_000)
    with pytest.raises(ChainDamaged, match=r"disk1\.vmdk"):
        store.export(MACHINE_ID, point.point_id, 0, tmp_path / "out.vmdk")


def test_all_damaged_files_of_a_chain_are_named(store: Store, chain: list[Manifest]) -> None:
    for point in chain[1:3]:
        flip_byte(disk_path(store, point), 66_000)
    with pytest.raises(ChainDamaged) as refusal:
        store.prove(MACHINE_ID, chain[3].point_id)
    assert [finding.point_id for finding in refusal.value.findings] == [
        point.point_id for point in chain[1:3]
    ]
    assert list(refusal.value.good_point_ids) == [chain[0].point_id]


def test_a_proof_tells_its_progress_and_may_be_ended(store: Store, chain: list[Manifest]) -> None:
    told: list[tuple[int, int]] = []
    proof = store.prove(
        MACHINE_ID, chain[3].point_id, lambda done, total: told.append((done, total))
    )
    assert proof.manifests == tuple(chain)
    assert proof.proven_bytes == sum(point.stored_bytes for point in chain)
    assert told[-1] == (proof.proven_bytes, proof.proven_bytes)
    with pytest.raises(ZeroDivisionError):
        store.prove(MACHINE_ID, chain[3].point_id, lambda done, total: 1 // 0)


def test_cleaning_removes_leftovers_and_only_those(store: Store, chain: list[Manifest]) -> None:
    unfinished = store.root / "machines" / MACHINE_ID / "unfinished"
    leftover = unfinished / "33333333-2222-4333-8444-555555555555"
    leftover.mkdir()
    (leftover / "disk0.vmdk").write_bytes(b"half")
    stray = store.get_folder(MACHINE_ID, chain[3].point_id) / "disk0.grains.1-2.partial"
    stray.write_bytes(b"half")
    with begin(store, chain[3]) as writer:
        report = store.check()
        assert report.is_good
        assert set(report.leftovers) == {leftover, stray}
        assert set(store.clean(report)) == {leftover, stray}
        send_disk(writer, 0, {9: 9}, 4 * MIB, has_parent=True)
        writer.commit({}, "crash", "", "", 0)
    assert store.check().leftovers == ()
    assert len(store.check().good_points) == 5


@pytest.mark.parametrize(
    ("what", "capacity_bytes", "cid", "parent_cid"),
    [
        ("capacity", 4 * MIB - 512, None, None),
        ("content id", 4 * MIB, "0badcafe", None),
        ("parent content id", 4 * MIB, None, "0badcafe"),
    ],
)
def test_another_sound_file_of_the_same_length_is_refused(
    store: Store,
    chain: list[Manifest],
    what: str,
    capacity_bytes: int,
    cid: str | None,
    parent_cid: str | None,
) -> None:
    path = disk_path(store, chain[1])
    length_bytes = path.stat().st_size
    path.write_bytes(
        make_stream(
            {1: 3},
            capacity_bytes,
            cid or chain[1].disk(0).cid,
            parent_cid or chain[0].disk(0).cid,
            f"../{chain[0].folder_name}/disk0.vmdk",
        )
    )
    assert path.stat().st_size == length_bytes
    for use in (store.plan_export, store.plan_restore, store.open_disk):
        with pytest.raises(ChainDamaged, match=f": its {what} is "):
            use(MACHINE_ID, chain[3].point_id, 0)
