"""The device-mapper layer in a real guest: all disks at one instant while the guest writes."""

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.client import AgentClient, PairedAgent, pair_with_agent
from agent.errors import AgentUnreachable
from lab.guest.machines import get_machine
from lab.qemu import Guest
from lab.source_machines import SourceMachine
from lab.suspended import ensure_suspended
from tests.agent.folder_sink import FolderSink
from tests.places.agent import MIB, Core
from tests.places.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.guests, pytest.mark.full]

BOOT_LIMIT_SECONDS = 400  # under software emulation, on a busy computer
ROOT_OFFSET_BYTES = 48 * MIB
DATA_OFFSET_BYTES = 1 * MIB


@dataclass
class Machine:
    """A running guest whose agent is paired."""

    guest: Guest
    client: AgentClient
    paired: PairedAgent
    folder: Path
    disks: list[Path]


@pytest.fixture
def machine(tmp_path: Path, source: Core) -> Iterator[Machine]:
    """A machine that is resumed after an earlier boot."""
    image = ensure_suspended("db-01")
    running = SourceMachine(get_machine("db-01"), tmp_path, agent_port=0)
    address = running.machine.address
    running.agent_port = free_port(address)
    running.ensure_disks(image)
    running.start()
    try:
        paired = pair_when_up(running, image.pairing_code, source)
        client = AgentClient(
            *(address, running.agent_port, source.credentials, paired.certificate_pem),
            timeout_seconds=120,
        )
        disks = [running.folder / disk.name for disk in image.disks]
        yield Machine(running.guest, client, paired, tmp_path, disks)
    finally:
        running.guest.kill()
        shutil.rmtree(running.folder, ignore_errors=True)


def pair_when_up(running: SourceMachine, code: str, core: Core) -> PairedAgent:
    address, port = running.machine.address, running.agent_port
    deadline = time.monotonic() + BOOT_LIMIT_SECONDS
    while True:
        try:
            return pair_with_agent(address, port, code, core.credentials, core.name, 60)
        except AgentUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_points_of_a_machine_that_keeps_writing(machine: Machine) -> None:
    """One guest for all, since the first point reads all of its disks."""
    incremental = assert_clean_at_one_instant(machine)
    assert_a_hold_ends(machine, incremental)
    assert_nothing_is_written_after_a_watched_final_point(machine, incremental)


def assert_clean_at_one_instant(machine: Machine) -> FolderSink:
    assert machine.paired.description.snapshot_provider == "device_mapper"
    assert {"vmw_pvscsi", "vmxnet3", "dm_mod"} <= set(machine.client.describe().initramfs_drivers)
    base = FolderSink(machine.folder / "base")
    incremental = FolderSink(machine.folder / "incremental", base)

    first = machine.client.take_snapshot(base)
    second = machine.client.take_snapshot(incremental, incremental.parent_disks())

    assert (first.consistency, second.consistency) == ("file_system", "file_system")
    assert all(disk.has_parent for disk in incremental.disks.values())
    before, after = judged_journal(base), judged_journal(incremental)
    assert before == after[: len(before)]
    assert len(after) > len(before)
    return incremental


def assert_a_hold_ends(machine: Machine, parent: FolderSink) -> None:
    """Without a watch, everything is read; a machine that is released keeps running."""
    final = FolderSink(machine.folder / "first-final", parent)
    result = machine.client.take_snapshot(final, final.parent_disks(), hold_seconds=60)
    assert result.is_held
    assert result.why_whole == "no earlier point was watched"
    assert machine.client.release_hold()


def assert_nothing_is_written_after_a_watched_final_point(
    machine: Machine, parent: FolderSink
) -> None:
    """Take the machine's power while it is held: its disks are bit for bit what the point holds.

    Of that point only what was written since the one before was read.
    """
    running = FolderSink(machine.folder / "running", parent)
    assert machine.client.take_snapshot(
        running, running.parent_disks(), watch_seconds=600
    ).is_watched
    time.sleep(10)  # in which its journal gets new records
    final = FolderSink(machine.folder / "final", running)
    result = machine.client.take_snapshot(final, final.parent_disks(), hold_seconds=60)
    assert result.is_held
    assert result.why_whole == ""
    assert all(disk.has_parent for disk in final.disks.values())
    assert any(
        disk.digests != running.disks[number].digests for number, disk in final.disks.items()
    )
    for _ in range(5):  # in which its journal would have got new records
        time.sleep(1)
        until = machine.client.extend_hold()
    machine.guest.kill()

    assert not until.is_past
    for number, disk in final.disks.items():
        done = subprocess.run(
            [
                *("qemu-img", "compare", "-f", "vmdk", "-F", "raw"),
                *(str(disk.path), str(machine.disks[number])),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def judged_journal(point: FolderSink) -> list[str]:
    """Check both file systems of a point, and return the journal's records, each of which fits."""
    images = []
    for number, disk in sorted(point.disks.items()):
        image = point.folder / f"disk{number}.raw"
        subprocess.run(
            ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(disk.path), str(image)],
            check=True,
            timeout=300,
        )
        images.append(image)
    root, data = images
    for place in (f"{root}?offset={ROOT_OFFSET_BYTES}", f"{data}?offset={DATA_OFFSET_BYTES}"):
        done = subprocess.run(
            ["e2fsck", "-fn", place], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "recovering journal" not in done.stdout
    done = subprocess.run(
        ["debugfs", "-R", "cat journal", f"{data}?offset={DATA_OFFSET_BYTES}"],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    records = done.stdout.splitlines()
    digest = ""
    for count, record in enumerate(records, 1):
        number, written_at, own_digest = record.split(" ")
        digest = hashlib.sha256(f"{digest} {number} {written_at}".encode()).hexdigest()
        assert (int(number), own_digest) == (count, digest)
    return records
