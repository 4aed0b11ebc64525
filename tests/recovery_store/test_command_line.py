"""The commands as others script them: output, exit codes, and errors without tracebacks."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from recovery_store.__main__ import main
from recovery_store.store import Store
from tests.recovery_store.disks import (
    MIB,
    NOON,
    add_chain,
    commit,
    disk_path,
    flip_byte,
    import_raw,
    judges_say_same,
    send_disk,
    write_raw,
)

GHOST = "99999999-2222-4333-8444-555555555555"


@dataclass
class Result:
    """What a command has said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: object) -> Result:
    """Run a command in this process, which spares the start of another."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as complaints:
        code = main([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), complaints.getvalue())


def run_alone(*arguments: object) -> Result:
    """Run a command in a separate process."""
    result = subprocess.run(
        [sys.executable, "-m", "recovery_store", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in result.stderr
    return Result(result.returncode, result.stdout, result.stderr)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "disk.raw", {0: 1, 9: 2}, 4 * MIB)


def test_the_whole_life_of_a_chain(store: Store, image: Path, tmp_path: Path) -> None:
    first = run_alone("import", store.root, "--machine", "web-01", image)
    assert first.returncode == 0
    base_id = first.stdout.splitlines()[-1]
    write_raw(image, {0: 1, 9: 3, 12: 4}, 6 * MIB)
    second = run_alone("import", store.root, "--machine", "web-01", image, "--parent", base_id)
    delta_id = second.stdout.splitlines()[-1]

    listed = json.loads(run_alone("list", store.root, "--json").stdout)
    assert [point["point_id"] for point in listed] == [base_id, delta_id]
    assert [point["kind"] for point in listed] == ["base_image", "incremental"]
    assert listed[1]["parent_point_id"] == base_id
    assert listed[1]["machine_name"] == "web-01"
    assert listed[0]["taken_at"] < listed[1]["taken_at"]
    plain = run_alone("list", store.root).stdout.splitlines()
    assert [line.split()[0] for line in plain] == [base_id, delta_id]

    checked = run_alone("check", store.root)
    assert checked.returncode == 0
    assert [line.split()[1] for line in checked.stdout.splitlines()] == [base_id, delta_id]

    exported = run_alone("export", store.root, delta_id, 0, tmp_path / "out.vmdk")
    assert exported.returncode == 0
    assert judges_say_same(tmp_path / "out.vmdk", image)
    assert run_alone("compare", store.root, delta_id, 0, image).returncode == 0
    different = run_alone("compare", store.root, base_id, 0, image)
    assert (different.returncode, different.stdout[:10]) == (1, "different:")


def test_an_archive_there_and_back(store: Store, image: Path, tmp_path: Path) -> None:
    point = import_raw(store, [image])
    folder, other = tmp_path / "archive", tmp_path / "other"
    line = f"of web-01, {point.taken_at:%Y-%m-%dT%H:%M:%SZ}, {point.stored_bytes} bytes\n"
    for arguments in (("archive", store.root, "web-01", folder), ("consume", other, folder)):
        for what in ("copied", "already there"):
            done = run(*arguments)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == f"{what}: {point.point_id} {line}"
    assert run("archive", store.root, point.machine_id, folder).returncode == 0
    assert run("compare", other, point.point_id, 0, image).returncode == 0
    assert run("check", folder).returncode == 0


def test_an_archive_of_one_point(store: Store, tmp_path: Path) -> None:
    base, middle, _ = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    done = run("archive", store.root, "web-01", tmp_path / "archive", "--point", middle.point_id)
    assert [text.split()[1] for text in done.stdout.splitlines()] == [
        base.point_id,
        middle.point_id,
    ]


def test_two_machines_of_one_name_are_told_apart_by_their_ids(store: Store, tmp_path: Path) -> None:
    (point,) = add_chain(store, {0: 1})
    other_id = "22222222-2222-4333-8444-555555555555"
    with store.begin_point(other_id, point.machine_name, GHOST, taken_at=NOON) as writer:
        send_disk(writer, 0, {0: 2}, 4 * MIB)
        commit(writer)
    refused = run("archive", store.root, point.machine_name, tmp_path / "archive")
    assert refused.returncode == 2
    assert "[STORE-MACHINE-MISSING]" in refused.stderr
    assert point.machine_id in refused.stderr
    assert other_id in refused.stderr
    assert run("archive", store.root, other_id, tmp_path / "archive").returncode == 0
    assert Store(tmp_path / "archive").machine_ids() == [other_id]


def test_a_damaged_or_incomplete_archive_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    folder, other = tmp_path / "archive", tmp_path / "other"
    run("archive", store.root, "web-01", folder)
    path = disk_path(Store(folder), delta)
    flip_byte(path, 66_000)
    refused = run("consume", other, folder)
    assert refused.returncode == 1
    assert str(path) in refused.stderr
    assert "[STORE-CHAIN-DAMAGED]" in refused.stderr
    assert refused.stderr.splitlines()[-1] == f"good: {base.point_id}"
    path.unlink()
    refused = run("consume", other, folder)
    assert refused.returncode == 1
    assert str(path) in refused.stderr
    assert "[STORE-CHAIN-BROKEN]" in refused.stderr
    assert run("list", other).stdout.split()[0] == base.point_id


def test_damage_is_named_a_line_each_with_the_points_that_stay_good(
    store: Store, tmp_path: Path
) -> None:
    base, middle, newest = add_chain(store, {0: 1}, {1: 2}, {2: 3})
    flip_byte(disk_path(store, middle), 66_000)
    checked = run("check", store.root)
    assert checked.returncode == 1
    lines = checked.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("damaged: ")
    assert str(disk_path(store, middle)) in lines[0]
    assert lines[1].startswith("broken: ")
    assert newest.point_id in lines[1]
    assert lines[2].startswith(f"good: {base.point_id}")

    refused = run("export", store.root, newest.point_id, 0, tmp_path / "out.vmdk")
    assert refused.returncode == 1
    assert "[STORE-CHAIN-DAMAGED]" in refused.stderr
    assert refused.stderr.splitlines()[-1] == f"good: {base.point_id}"
    assert list(tmp_path.glob("out*")) == []

    disk_path(store, base).unlink()
    assert "missing: " in run("check", store.root).stdout
    refused = run("export", store.root, newest.point_id, 0, tmp_path / "out.vmdk")
    assert (refused.returncode, "[STORE-CHAIN-BROKEN]" in refused.stderr) == (1, True)
    broken = run("compare", store.root, newest.point_id, 0, tmp_path / "store")
    assert broken.returncode == 2


def test_an_unreadable_point_is_not_dropped_from_the_list_in_silence(store: Store) -> None:
    base, delta = add_chain(store, {0: 1}, {1: 2})
    disk_path(store, base).with_name("manifest.json").write_text("{}")
    listed = run("list", store.root, "--json")
    assert [point["point_id"] for point in json.loads(listed.stdout)] == [delta.point_id]
    assert base.point_id in listed.stderr
    assert run("check", store.root).returncode == 1


def test_what_cannot_be_done_ends_with_two_and_says_why(
    store: Store, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = import_raw(store, [image])
    gone = tmp_path / "gone.raw"
    for arguments, why in (
        (("list", tmp_path / "nowhere"), "is not a store"),
        (("check", image), "is not a store"),
        (("export", tmp_path / "nowhere", GHOST, 0, tmp_path / "o"), "is not a store"),
        (("export", store.root, GHOST, 0, tmp_path / "o"), f"holds no recovery point '{GHOST}'"),
        (("export", store.root, "../..", 0, tmp_path / "o"), "holds no recovery point"),
        (("export", store.root, point.point_id, 7, tmp_path / "o"), "has no disk 7"),
        (("export", store.root, point.point_id, -1, tmp_path / "o"), "has no disk -1"),
        (("export", store.root, point.point_id, "x", tmp_path / "o"), "invalid int value"),
        (("export", store.root, point.point_id, 0, tmp_path / "no/folder/o"), "No such file"),
        (("export", store.root, point.point_id, 0, tmp_path), "directory"),
        (("compare", store.root, point.point_id, 0, gone), "cannot be opened"),
        (("compare", store.root, point.point_id, 0, tmp_path), "is not a disk image"),
        (("compare", store.root, GHOST, 0, image), "holds no recovery point"),
        (("import", store.root, "--machine", "m", gone), "cannot be opened"),
        (("import", store.root, "--machine", "m", "/dev/null"), "not a disk"),
        (("import", store.root, "--machine", "", image), "a machine's name must"),
        (("import", store.root, "--machine", "m"), "required"),
        (("import", store.root, image), "--machine"),
        (("import", store.root, "--machine", "m", image, "--parent", GHOST), "holds no"),
        (
            ("import", store.root, "--machine", "other", image, "--parent", point.point_id),
            "belongs to machine 'web-01'",
        ),
        (("import", image, "--machine", "m", image), "cannot be"),
        (("archive", tmp_path / "nowhere", "web-01", tmp_path / "o"), "is not a store"),
        (("archive", store.root, "mail-01", tmp_path / "o"), "holds no machine 'mail-01'"),
        (("archive", store.root, GHOST, tmp_path / "o"), "holds no machine"),
        (("archive", store.root, "web-01", store.root), "is the store itself"),
        (("archive", store.root, "web-01", tmp_path / "no/folder"), "does not exist"),
        (("archive", store.root, "web-01", tmp_path / "o", "--point", GHOST), "holds no recovery"),
        (("consume", tmp_path / "o", tmp_path / "nowhere"), "is not an archive"),
        (("consume", tmp_path / "o", image), "cannot be read"),
        (("consume", store.root, store.root), "is the store itself"),
        ((), "required"),
        (("prune", store.root), "invalid choice"),
    ):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as refusal:  # the parser's way
            code = refusal.code
        assert code == 2, arguments
        assert why in capsys.readouterr().err, arguments
    assert store.points(point.machine_id) == [point]
    assert not list(tmp_path.glob("o*"))


def test_a_reader_that_stops_early_is_no_error(store: Store) -> None:
    add_chain(store, *({number: number} for number in range(12)))
    result = subprocess.run(
        f"{sys.executable} -m recovery_store list {store.root} --json | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_an_existing_file_is_replaced_only_by_a_whole_export(
    store: Store, image: Path, tmp_path: Path
) -> None:
    point = import_raw(store, [image])
    out = tmp_path / "out.vmdk"
    out.write_text("before")
    flip_byte(disk_path(store, point), 66_000)
    assert run("export", store.root, point.point_id, 0, out).returncode == 1
    assert out.read_text() == "before"
    flip_byte(disk_path(store, point), 66_000)
    assert run("export", store.root, point.point_id, 0, out).returncode == 0
    assert judges_say_same(out, image)
