"""A merged chain is the disk that a plain model says, and its export a VMDK of known length."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery_store.errors import VmdkDamaged, VmdkLimit
from recovery_store.vmdk.disk import MergedDisk
from recovery_store.vmdk.layout import GRAIN_BYTES, TABLE_SPAN_BYTES, grain_count
from recovery_store.vmdk.merge import ExportPlan
from recovery_store.vmdk.reader import FilePool, StreamFile
from recovery_store.vmdk.validator import StreamValidator
from recovery_store.vmdk.writer import StreamWriter
from tests.recovery_store.disks import (
    MIB,
    Grains,
    content,
    judges_say_same,
    make_stream,
    qemu_says_same,
    raw_bytes,
    without_sections,
)

CID = "0badcafe"


def write_chain(folder: Path, layers: Sequence[tuple[Grains, int]]) -> list[Path]:
    """Write a base and deltas on it; return their paths, the newest first."""
    paths: list[Path] = []
    for number, (grains, capacity_bytes) in enumerate(layers):
        parent = (f"{number:08x}", f"{number - 1}.vmdk") if number else (None, None)
        path = folder / f"{number}.vmdk"
        path.write_bytes(make_stream(grains, capacity_bytes, f"{number + 1:08x}", *parent))
        paths.insert(0, path)
    return paths


def model(layers: Sequence[tuple[Grains, int]]) -> bytes:
    disk: dict[int, int | None] = {}
    for grains, _ in layers:
        disk.update(grains)
    return raw_bytes(disk, layers[-1][1])


def open_plan(paths: Sequence[Path]) -> ExportPlan:
    pool = FilePool()
    return ExportPlan([StreamFile(path, pool) for path in paths], pool, CID)


def open_disk(paths: Sequence[Path]) -> MergedDisk:
    pool = FilePool()
    return MergedDisk([StreamFile(path, pool) for path in paths], pool)


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[Grains, int]]:
    """A base and up to five deltas; disks grow, and may end inside a grain."""
    sectors = draw(st.integers(1, 36 * 2048))
    layers: list[tuple[Grains, int]] = []
    for number in range(draw(st.integers(1, 6))):
        capacity_bytes = sectors * 512
        # The disk ends inside its last grain; the grain is complete all the same, with zeros.
        whole_grains = capacity_bytes // GRAIN_BYTES
        grains: Grains = {}
        if whole_grains:
            values = st.integers(0, 20) | st.none() if number else st.integers(0, 20)
            grains = draw(st.dictionaries(st.integers(0, whole_grains - 1), values, max_size=20))
        layers.append((grains, capacity_bytes))
        sectors += draw(st.just(0) | st.integers(0, 4096))
    return layers


@given(layers=chains())
def test_a_merged_chain_reads_as_the_model(
    tmp_path_factory: pytest.TempPathFactory, layers: list[tuple[Grains, int]]
) -> None:
    paths = write_chain(tmp_path_factory.mktemp("chain"), layers)
    with open_disk(paths) as disk:
        assert disk.read(0, disk.capacity_bytes) == model(layers)


@given(layers=chains(), chunk_bytes=st.integers(700, 200_000))
def test_an_export_is_one_true_stream_of_the_planned_length(
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[tuple[Grains, int]],
    chunk_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    capacity_bytes = layers[-1][1]
    with open_plan(write_chain(folder, layers)) as plan:
        chunks = list(plan.read_chunks(chunk_bytes))
        stream = b"".join(chunks)
        assert len(stream) == plan.length_bytes
        assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])
        assert b"".join(plan.read_chunks()) == stream
        assert plan.capacity_bytes == capacity_bytes
    validator = StreamValidator(capacity_bytes, CID)
    validator.feed(stream)
    validator.finish()
    (folder / "export.vmdk").write_bytes(stream)
    with open_disk([folder / "export.vmdk"]) as disk:
        assert disk.read(0, capacity_bytes) == model(layers)


def test_others_find_the_export_the_same_as_the_chain_and_as_the_disk(tmp_path: Path) -> None:
    layers: list[tuple[Grains, int]] = [
        ({index: index for index in range(0, 1100, 7)}, 70 * MIB),
        ({index: 1000 + index for index in range(0, 1100, 13)}, 70 * MIB),
        (dict.fromkeys(range(0, 1100, 21)), 80 * MIB),
        ({0: 1, 511: 2, 512: 3, 1279: 4}, 80 * MIB),
    ]
    paths = write_chain(tmp_path, layers)
    (tmp_path / "disk.raw").write_bytes(model(layers))
    with open_plan(paths) as plan:
        plan.write_to(tmp_path / "export.vmdk")
    assert qemu_says_same(paths[0], tmp_path / "disk.raw")
    assert judges_say_same(tmp_path / "export.vmdk", tmp_path / "disk.raw")
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", tmp_path / "export.vmdk", tmp_path / "back.raw"],
        check=True,
    )
    assert (tmp_path / "back.raw").read_bytes() == model(layers)


def test_a_chain_of_an_older_version_is_exported_with_the_sections_that_others_want(
    tmp_path: Path,
) -> None:
    layers: list[tuple[Grains, int]] = [({0: 1, 5: 2}, 4 * MIB), ({5: 3}, 4 * MIB)]
    paths = write_chain(tmp_path, layers)
    for path in paths:
        path.write_bytes(without_sections(path.read_bytes()))
    (tmp_path / "disk.raw").write_bytes(model(layers))
    assert qemu_says_same(paths[0], tmp_path / "disk.raw")
    with open_plan(paths) as plan:
        plan.write_to(tmp_path / "export.vmdk")
    assert judges_say_same(tmp_path / "export.vmdk", tmp_path / "disk.raw")


@pytest.mark.parametrize("capacity_bytes", [33 * MIB - 512, 32 * MIB - 512, 4 * MIB])
def test_an_export_can_be_enlarged_to_whole_steps(tmp_path: Path, capacity_bytes: int) -> None:
    last = grain_count(capacity_bytes) - 1
    layers: list[tuple[Grains, int]] = [({0: 1}, 512), ({last: None, 0: 1}, capacity_bytes)]
    paths, pool = write_chain(tmp_path, layers), FilePool()
    with ExportPlan([StreamFile(path, pool) for path in paths], pool, CID, step_bytes=MIB) as plan:
        plan.write_to(tmp_path / "export.vmdk")
        whole_bytes = -(-capacity_bytes // MIB) * MIB
        assert plan.capacity_bytes == whole_bytes
        assert plan.length_bytes == (tmp_path / "export.vmdk").stat().st_size
    (tmp_path / "disk.raw").write_bytes(model(layers).ljust(whole_bytes, b"\0"))
    assert judges_say_same(tmp_path / "export.vmdk", tmp_path / "disk.raw")


def test_the_same_grains_are_copied_and_neither_inflated_nor_deflated(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, [({4: 1, 5: 2}, 4 * MIB), ({5: 3}, 4 * MIB)])
    with open_plan(paths) as plan:
        exported = b"".join(plan.read_chunks())
    assert exported == make_stream({4: 1, 5: 3}, 4 * MIB, CID)


def test_a_grown_disk_reads_zero_where_its_parent_ended(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, [({0: 1}, GRAIN_BYTES + 512), ({}, 4 * MIB)])
    with open_disk(paths) as disk:
        assert disk.read(0, 4 * MIB) == content(1).ljust(4 * MIB, b"\0")


def test_a_part_of_a_disk_is_read_across_grains_and_not_past_its_end(tmp_path: Path) -> None:
    layers: list[tuple[Grains, int]] = [({0: 1, 1: 2}, 4 * GRAIN_BYTES)]
    with open_disk(write_chain(tmp_path, layers)) as disk:
        assert disk.read(65530, 10) == content(1)[-6:] + content(2)[:4]
        assert disk.read(4 * GRAIN_BYTES - 3, 10) == bytes(3)
        assert disk.read(5 * GRAIN_BYTES, 10) == b""


def test_nothing_is_written_if_before_rename_refuses(tmp_path: Path) -> None:
    def veto() -> None:
        raise VmdkDamaged("no")

    with (
        open_plan(write_chain(tmp_path, [({0: 1}, 4 * MIB)])) as plan,
        pytest.raises(VmdkDamaged),
    ):
        plan.write_to(tmp_path / "export.vmdk", before_rename=veto)
    assert [path.name for path in tmp_path.iterdir()] == ["0.vmdk"]


def test_a_file_cut_after_the_plan_ends_the_copy_with_its_name(tmp_path: Path) -> None:
    paths = write_chain(tmp_path, [({index: index for index in range(60)}, 4 * MIB)])
    with open_plan(paths) as plan:
        with paths[0].open("r+b") as file:
            file.truncate(70_000)
        with pytest.raises(VmdkDamaged, match=r"0\.vmdk"):
            plan.write_to(tmp_path / "export.vmdk")
    assert not list(tmp_path.glob("export*"))


def test_progress_ends_at_the_whole_length_and_may_end_the_copy(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with open_plan(write_chain(tmp_path, [({0: 1}, 4 * MIB)])) as plan:
        plan.write_to(tmp_path / "a.vmdk", lambda done, total: told.append((done, total)))
        assert told[-1] == (plan.length_bytes, plan.length_bytes)
        with pytest.raises(ZeroDivisionError):
            plan.write_to(tmp_path / "b.vmdk", lambda done, total: 1 // 0)
    assert not list(tmp_path.glob("b.vmdk*"))


def test_a_disk_of_62_tib_with_two_grains_costs_no_more_than_they_do(tmp_path: Path) -> None:
    capacity_bytes = 62 << 40
    last = grain_count(capacity_bytes) - 1
    paths = write_chain(
        tmp_path, [({0: 1, 9: 9}, capacity_bytes), ({9: None, last: 2}, capacity_bytes)]
    )
    with open_plan(paths) as plan, open_disk(paths) as disk:
        assert plan.data_bytes == 2 * GRAIN_BYTES
        assert sum(len(chunk) for chunk in plan.read_chunks()) == plan.length_bytes
        assert disk.read(capacity_bytes - GRAIN_BYTES, GRAIN_BYTES) == content(2)


def test_a_result_past_2_tib_is_refused_at_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_chain(tmp_path, [({0: 1}, 4 * MIB)])
    monkeypatch.setattr("recovery_store.vmdk.merge.FILE_LIMIT_SECTORS", 130)
    with pytest.raises(VmdkLimit, match="2 TiB"):
        open_plan(paths)


def test_a_chain_longer_than_a_process_may_open_files_is_exported(tmp_path: Path) -> None:
    layers: list[tuple[Grains, int]] = [({0: 0}, TABLE_SPAN_BYTES)]
    layers += [({number % 500 + 1: number}, TABLE_SPAN_BYTES) for number in range(1, 300)]
    paths = write_chain(tmp_path, layers)
    with open_plan(paths) as plan:
        plan.write_to(tmp_path / "export.vmdk")
    with open_disk([tmp_path / "export.vmdk"]) as disk:
        assert disk.read(0, TABLE_SPAN_BYTES) == model(layers)


def test_writer_and_export_agree_byte_for_byte_on_a_base(tmp_path: Path) -> None:
    grains: Grains = {index: index for index in range(0, 1024, 3)}
    paths = write_chain(tmp_path, [(grains, 64 * MIB)])
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, 64 * MIB, CID)
    assert not writer.is_delta
    with open_plan(paths) as plan:
        assert b"".join(plan.read_chunks()) == make_stream(grains, 64 * MIB, CID)
