"""A power cut, or a kill, at any moment leaves whole points only, and keeps what was reported."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from recovery_store.archiving import archive, consume
from recovery_store.manifest import Manifest
from recovery_store.store import Store
from tests.power_cut import Platter, Tree, write_tree
from tests.recovery_store.disks import (
    MACHINE_ID,
    MIB,
    add_chain,
    begin,
    commit,
    disk_path,
    send_disk,
)

POINT_ID = "33333333-2222-4333-8444-555555555555"

# What is done to a store, and done again after a power cut.
Act = Callable[[Store], object]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The disk whose power is cut."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def store(disk: Path) -> Store:
    return Store(disk / "store", reserve_bytes=0)


def hold_through_cuts(store: Store, act: Act, tmp_path: Path) -> list[str]:
    """Act, with the power cut before each change; return the points that survive.

    What a cut leaves must be sound, and acting once more must bring it where it was to go.
    """
    before = good_points(store)
    platter = Platter(store.root.parent)
    cuts: list[Tree] = []

    def cut() -> None:
        cuts.extend(tree for tree in platter.cuts() if tree not in cuts)

    with platter.recording(cut):
        act(store)
    done = good_points(store)
    assert len(cuts) > 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)  # no cut comes twice
        for number, tree in enumerate(cuts):
            left = Store(write_tree(tree, tmp_path / f"cut-{number}") / "store", reserve_bytes=0)
            assert {*before} & {*done} <= {*good_points(left)} <= {*before} | {*done}
            left.clean(left.check())
            act(left)
            assert good_points(left) == done
    for number, tree in enumerate(platter.cuts()):
        assert good_points(Store(write_tree(tree, tmp_path / f"end-{number}") / "store")) == done
    platter.close()
    return done


def good_points(store: Store) -> list[str]:
    report = store.check()
    assert report.is_good, report.findings
    return [point.point_id for point in report.good_points]


def add(store: Store, parent: Manifest | None) -> None:
    """Add a point of two disks under that id, unless it is there."""
    if POINT_ID in store.folders(MACHINE_ID):
        return
    with begin(store, parent, POINT_ID) as writer:
        send_disk(writer, 0, {3: 4}, 4 * MIB, has_parent=parent is not None)
        send_disk(writer, 1, {0: 5}, 4 * MIB)
        commit(writer)


def test_writing_the_first_point_of_a_store(store: Store, tmp_path: Path) -> None:
    assert hold_through_cuts(store, lambda at: add(at, None), tmp_path) == [POINT_ID]


def test_writing_an_incremental(store: Store, tmp_path: Path) -> None:
    (base,) = add_chain(store, {0: 1})
    done = hold_through_cuts(store, lambda at: add(at, base), tmp_path)
    assert done == [base.point_id, POINT_ID]


def test_receiving_a_replica(store: Store, tmp_path: Path) -> None:
    source = Store(tmp_path / "source", reserve_bytes=0)
    add(source, None)
    point = source.get_point(MACHINE_ID, POINT_ID)

    def receive(at: Store) -> None:
        for disk in point.disks:
            data = disk_path(source, point, disk.number).read_bytes()
            at.begin_replica(MACHINE_ID, point.to_bytes())
            # A request for each piece, as cores do it.
            for end in (len(data) // 2, len(data)):
                replica = at.get_replica(MACHINE_ID, POINT_ID)
                offset = replica.offset_bytes(disk.file)
                if offset < end:
                    replica.append(disk.file, offset, data[offset:end])
        at.get_replica(MACHINE_ID, POINT_ID).commit()

    assert hold_through_cuts(store, receive, tmp_path) == [POINT_ID]


@pytest.mark.parametrize("act", ["archive", "consume"])
def test_copying_points(store: Store, tmp_path: Path, act: str) -> None:
    source = Store(tmp_path / "source", reserve_bytes=0)
    points = add_chain(source, {0: 1}, {1: 2, 0: None})

    def copy(at: Store) -> None:
        if act == "archive":
            archive(source, MACHINE_ID, at.root)
        else:
            consume(at, source.root)

    done = hold_through_cuts(store, copy, tmp_path)
    assert done == [point.point_id for point in points]


def test_deleting(store: Store, tmp_path: Path) -> None:
    base, newest = add_chain(store, {0: 1}, {1: 2})

    def delete(at: Store) -> None:
        if newest.point_id in at.folders(MACHINE_ID):
            at.delete_point(MACHINE_ID, newest.point_id)

    assert hold_through_cuts(store, delete, tmp_path) == [base.point_id]
