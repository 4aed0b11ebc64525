"""The device-mapper layer in a real guest: one instant over its disks while it goes on writing."""

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.client import AgentClient, PairedAgent, pair_with_agent
from agent.errors import AgentUnreachable
from lab.guest.image import ensure_images
from lab.qemu import Drive, Forward, Guest, Hardware
from tests.agent.conftest import MIB, Core
from tests.agent.folder_sink import FolderSink
from tests.places.ports import free_port

pytestmark = [pytest.mark.live, pytest.mark.guests, pytest.mark.slow]

ADDRESS = "127.0.1.201"
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
    image = ensure_images()["db-01"]
    port = free_port()
    drives = []
    for unit, disk in enumerate(image.disks):
        copy = tmp_path / disk.name
        subprocess.run(["cp", "--sparse=always", str(disk), str(copy)], check=True, timeout=120)
        drives.append(Drive(copy, "raw", "pvscsi", unit))
    guest = Guest(tmp_path / "guest", "agent-test")
    hardware = Hardware(1, 512 * MIB, tuple(drives), (("vmxnet3", None),))
    guest.start(hardware, [Forward(ADDRESS, port, 8006)])
    try:
        paired = pair_when_up(port, image.pairing_code, source)
        client = AgentClient(
            ADDRESS, port, source.credentials, paired.certificate_pem, timeout_seconds=120
        )
        yield Machine(guest, client, paired, tmp_path, [drive.path for drive in drives])
    finally:
        guest.kill()
        shutil.rmtree(tmp_path / "guest", ignore_errors=True)


def pair_when_up(port: int, code: str, core: Core) -> PairedAgent:
    deadline = time.monotonic() + BOOT_LIMIT_SECONDS
    while True:
        try:
            return pair_with_agent(ADDRESS, port, code, core.credentials, core.name, 60)
        except AgentUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_points_of_a_machine_that_goes_on_writing(machine: Machine) -> None:
    """One guest for both, since it takes its time to boot."""
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
    """Without a watch all is read, and a machine that is released goes on."""
    final = FolderSink(machine.folder / "first-final", parent)
    result = machine.client.take_snapshot(final, final.parent_disks(), hold_seconds=60)
    assert result.is_held
    assert result.why_whole == "no point before it was watched"
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

    assert datetime.now(UTC) < until
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
