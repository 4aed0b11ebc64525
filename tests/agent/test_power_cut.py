"""What the agent says it has kept is there after a power cut."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agent.rescue.disk_writer import HEAD_BYTES, DiskWriter, write_head
from agent.state import AgentState, PairingState
from agent.tls import ensure_identity
from recovery_store.vmdk.deflate import deflate
from tests.places.agent import MIB, Core, blank_disk
from tests.power_cut import Platter, write_tree

GRAIN_BYTES = 64 * 1024
DISK = Path("disk")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder whose disk loses its power."""
    folder = tmp_path / "platter"
    folder.mkdir()
    return folder


@pytest.fixture
def platter(folder: Path) -> Platter:
    return Platter(folder)


@pytest.fixture
def after(tmp_path: Path) -> Path:
    """Where what cuts leave is put."""
    folder = tmp_path / "after"
    folder.mkdir()
    return folder


def left_by_cuts(platter: Platter, after: Path) -> list[Path]:
    """Return folders that hold what a cut now may leave."""
    known = len(list(after.iterdir()))
    return [
        write_tree(tree, after / str(number)) for number, tree in enumerate(platter.cuts(), known)
    ]


def test_the_agents_state_is_the_old_one_or_the_new_one(
    folder: Path, platter: Platter, source: Core, target: Core, after: Path
) -> None:
    state = AgentState(folder)
    known: list[object] = []

    def known_by(state: AgentState) -> object:
        names = [core.name for core in state.trusted_cores()]
        return names, state.find_pairing(), state.find_restores()

    def check() -> None:
        for left in left_by_cuts(platter, after):
            assert known_by(AgentState(left)) in known

    def save(act: Callable[[], object], expected: object) -> None:
        known[:] = [known_by(state), expected]
        with platter.recording(check):
            act()
        # It returned, so nothing older may come back.
        known[:] = [expected]
        check()

    new = PairingState("CODE-1", wrong_tries=1)
    cores = [source.name, target.name]
    restores = {"gpt-1": {"next_grain": 7}}
    save(lambda: state.save_pairing(new), ([], new, None))
    for count, core in enumerate((source, target), start=1):
        trust = partial(state.ensure_trusted_core, core.name, core.certificate_pem)
        save(trust, (cores[:count], new, None))
    save(lambda: state.save_restores(restores), (cores, new, restores))
    platter.close()


def test_an_identity_is_whole_or_not_there(folder: Path, platter: Platter, after: Path) -> None:
    has_key: list[bool] = []

    def check() -> None:
        has_key.append(Path("agent.key") in platter.cuts()[0])
        for left in left_by_cuts(platter, after):
            if (left / "agent.pem").exists():
                assert "END CERTIFICATE" in (left / "agent.pem").read_text()
                assert "END PRIVATE KEY" in (left / "agent.key").read_text()

    with platter.recording(check):
        ensure_identity(folder, "machine")
    # Before the certificate got its name, and before that name was synced.
    assert has_key[-2:] == [True, True]
    assert Path("agent.pem") in platter.cuts()[0]
    platter.close()


def test_what_is_reported_of_a_disk_is_on_it(folder: Path) -> None:
    disk = blank_disk(folder / DISK, 2 * MIB)
    platter = Platter(folder)
    grains = [os.urandom(GRAIN_BYTES) for _ in range(32)]
    reported: list[int] = []

    def report(next_grain: int) -> None:
        reported.append(next_grain)
        on_disk = platter.cuts()[0][DISK]
        assert on_disk is not None
        end = next_grain * GRAIN_BYTES
        assert on_disk[HEAD_BYTES:end] == b"".join(grains)[HEAD_BYTES:end]

    with (
        platter.recording(lambda: None),
        DiskWriter(disk, 2 * MIB, 0, True, report) as writer,
    ):
        for number, grain in enumerate(grains):
            writer.write_run(number, [memoryview(deflate(grain))])
        writer.finish()
        report(writer.next_grain)
    assert reported[-1] == 32
    platter.close()


def test_what_is_left_of_a_disk_that_was_given_up_is_on_it(folder: Path) -> None:
    disk = blank_disk(folder / DISK, 2 * MIB)
    platter = Platter(folder)
    grain = os.urandom(GRAIN_BYTES)
    with platter.recording(lambda: None):
        with DiskWriter(disk, 2 * MIB, 0, False, lambda _grain: None) as writer:
            writer.write_run(5, [memoryview(deflate(grain))])
        assert writer.next_grain == 6
    on_disk = platter.cuts()[0][DISK]
    assert on_disk is not None
    assert on_disk[5 * GRAIN_BYTES : 6 * GRAIN_BYTES] == grain
    platter.close()


def test_a_head_that_was_cleared_or_written_is_on_the_disk(folder: Path) -> None:
    disk = folder / DISK
    disk.write_bytes(b"an old boot sector".ljust(MIB, b"x"))
    head = os.urandom(HEAD_BYTES)
    platter = Platter(folder)
    with platter.recording(lambda: None):
        with DiskWriter(disk, MIB, 0, False, lambda _grain: None) as writer:
            writer.zero_bytes(0, HEAD_BYTES)
            cleared = platter.cuts()[0][DISK]
        write_head(disk, head)
        written = platter.cuts()[0][DISK]
    assert cleared == bytes(HEAD_BYTES) + b"x" * (MIB - HEAD_BYTES)
    assert written == head + b"x" * (MIB - HEAD_BYTES)
    platter.close()
